"""Which ConfigMaps and Secrets a pod needs at the provider."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reflection.forge.model import Json, Ref, References

_ADMISSION_VOLUME_PREFIX = "kube-api-access-"


def is_token_volume(volume: Json) -> bool:
    """Say whether a volume is the one that ServiceAccount admission adds to mount a token."""
    if not volume.get("name", "").startswith(_ADMISSION_VOLUME_PREFIX):
        return False
    sources = (volume.get("projected") or {}).get("sources") or ()
    return any("serviceAccountToken" in source for source in sources)


def mounts(remote: Json, secret: str) -> bool:
    """Say whether a remote pod mounts a Secret in a projected volume, as it does that of its tokens."""
    return any(
        (source.get("secret") or {}).get("name") == secret
        for volume in remote["spec"].get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
    )


def references(pod: Json, *, api_access: bool = False) -> References:
    """Collect references by env, envFrom, volumes and imagePullSecrets, of all kinds of containers.

    Without API access the token volume is not made at the provider, and what only it refers to is not needed.
    """
    spec = pod["spec"]
    config_maps: dict[str, bool] = {}
    secrets: dict[str, bool] = {}
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            _add(config_maps, _from_env(container, "configMapKeyRef", "configMapRef"))
            _add(secrets, _from_env(container, "secretKeyRef", "secretRef"))
    for volume in spec.get("volumes") or ():
        if api_access or not is_token_volume(volume):
            _add(config_maps, _from_volume(volume, "configMap"))
            _add(secrets, _from_volume(volume, "secret"))
    pull = frozenset(ref["name"] for ref in spec.get("imagePullSecrets") or () if ref.get("name"))
    return References(_refs(config_maps), _refs(secrets), pull)


def _from_env(container: Json, by_key: str, whole: str) -> Iterator[Json]:
    for variable in container.get("env") or ():
        source = variable.get("valueFrom")
        if source and by_key in source:
            yield source[by_key]
    for source in container.get("envFrom") or ():
        if whole in source:
            yield source[whole]


def _from_volume(volume: Json, source: str) -> Iterator[Json]:
    if source in volume:
        yield volume[source]
    elif "projected" in volume:
        for projection in volume["projected"].get("sources") or ():
            if source in projection:
                yield projection[source]


def _add(found: dict[str, bool], refs: Iterable[Json]) -> None:
    for ref in refs:
        name = ref.get("name") or ref.get("secretName")
        if name:
            found[name] = found.get(name, True) and bool(ref.get("optional"))


def _refs(found: dict[str, bool]) -> frozenset[Ref]:
    return frozenset(Ref(name, optional) for name, optional in found.items())
