"""Volumes of the remote pod: those that make sense anywhere, with their sources translated."""

from __future__ import annotations

from typing import Final

from reflection.forge import fields, names
from reflection.forge.model import Json, Note, Refused, TokenSpec
from reflection.forge.references import is_token_volume
from reflection.forge.walk import Job, Translator, apply, unreachable

_TOKEN_SECONDS = 3600
"""What a token lives that does not say so, and what it lives at most."""
_ADMISSION_TOKEN_SECONDS = 3607
"""What ServiceAccount admission asks for; the odd number marks its tokens, pkg/serviceaccount. Never asked for as it
is: an API server answers this very number by a token of a year (--service-account-extend-token-expiration,
pkg/registry/core/serviceaccount/storage/token.go)."""

_PLAIN: Final = frozenset({"name", "emptyDir", "secret", "image"})


def volumes(value: list[Json], job: Job, path: str) -> list[Json] | None:
    """Translate spec.volumes; volumes left out are noted in the job, so that their mounts go too."""
    out = []
    for index, volume in enumerate(value):
        if job.context.api_access is None and is_token_volume(volume):
            job.removed_volumes.add(volume["name"])
        elif volume.keys() <= _PLAIN:
            out.append(volume)
        elif "ephemeral" in volume:
            claim = {"claimName": f"{job.pod['metadata']['name']}-{volume['name']}"}
            out.append({"name": volume["name"], "persistentVolumeClaim": claim})
        else:
            where = f"{path}[{index}] ({volume.get('name', '')})"
            out.append(apply(volume, fields.VOLUME, VOLUME_TRANSLATORS, job=job, path=where))
    return out or None


def config_map(value: Json, job: Job, _path: str) -> Json:
    """Point a reference to a ConfigMap to its name at the provider."""
    if value.get("name") == names.ROOT_CA:
        return {**value, "name": job.context.root_ca_name}
    return value


def _downward_api(value: Json, job: Job, _path: str) -> Json:
    items = [
        {**item, "fieldRef": job.mirror(item["fieldRef"])} if "fieldRef" in item else item
        for item in value.get("items") or ()
    ]
    return {**value, "items": items}


def _projected(value: Json, job: Job, path: str) -> Json:
    return apply(value, fields.PROJECTED, PROJECTED_TRANSLATORS, job=job, path=path)


def _sources(value: list[Json] | None, job: Job, path: str) -> list[Json]:
    out = []
    for index, source in enumerate(value or ()):
        translated = _source(source, job, f"{path}[{index}]")
        if translated:
            out.append(translated)
    return out


def _source(source: Json, job: Job, path: str) -> Json | None:
    if "serviceAccountToken" in source:
        return _token(source["serviceAccountToken"], job, path)
    try:
        return apply(source, fields.VOLUME_PROJECTION, PROJECTION_TRANSLATORS, job=job, path=path)
    except Refused as refused:
        if not (source.get("clusterTrustBundle") or {}).get("optional"):
            raise
        job.notes.append(Note("OffloadWithoutTrustBundle", f"left out: {refused}"))
        return None


def _token(token: Json, job: Job, path: str) -> Json | None:
    """Put a key of the pod's token Secret in place of a projected token; the controller fills that Secret."""
    if job.context.api_access is None:
        job.notes.append(
            Note(
                "OffloadWithoutToken",
                f"{path}: the service account token is left out, for this virtual node gives offloaded pods no access "
                "to this cluster's API",
            )
        )
        return None
    meta = job.pod["metadata"]
    audience = token.get("audience") or ""
    seconds = token.get("expirationSeconds") or _TOKEN_SECONDS
    key = "token"
    if audience or seconds != _ADMISSION_TOKEN_SECONDS:
        key += "-" + names.digest(f"{audience}\0{seconds}", size=4)
    secret = names.token_secret_name(meta["name"], meta["uid"])
    wanted = TokenSpec(secret, key, audience, min(seconds, _TOKEN_SECONDS))
    if wanted not in job.tokens:
        job.tokens.append(wanted)
    return {"secret": {"name": wanted.secret, "items": [{"key": key, "path": token["path"]}]}}


VOLUME_TRANSLATORS: Final[dict[str, Translator]] = {
    "config_map": config_map,
    "downward_api": _downward_api,
    "ephemeral": unreachable,
    "projected": _projected,
}
PROJECTED_TRANSLATORS: Final[dict[str, Translator]] = {"sources": _sources}
PROJECTION_TRANSLATORS: Final[dict[str, Translator]] = {
    "config_map": config_map,
    "downward_api": _downward_api,
    "token": unreachable,
}
