"""Options of the commands: one table each for the flags and the YAML file, with the same names."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import yaml
from msgspec import Meta

T = TypeVar("T", bound=msgspec.Struct)


class OptionsError(ValueError):
    """An option can't be used; the text names it and says what to do."""


class LogOptions(msgspec.Struct, kw_only=True, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """What every command takes."""

    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="least level logged")] = "info"
    log_format: Annotated[Literal["json", "console"], Meta(description="form of the log lines")] = "json"


class Options(LogOptions, kw_only=True, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """What the user may set. Lists are repeated flags; each description is the flag's help."""

    node_name: Annotated[str, Meta(description="name of the virtual node")]
    consumer_kubeconfig: Annotated[
        str, Meta(description="kubeconfig of the consumer cluster; empty: the pod's own service account")
    ] = ""
    provider_kubeconfig: Annotated[str, Meta(description="kubeconfig of the provider cluster")] = ""
    consumer_id: Annotated[
        str, Meta(description="short name of the consumer cluster, unique among the provider's consumers")
    ] = "consumer"
    mode: Annotated[
        Literal["direct", "managed"],
        Meta(
            description="`direct`: pods are made at the provider; `managed`: its `isthmus manager` makes them, by "
            "ShadowPods"
        ),
    ] = "direct"
    namespace: Annotated[
        list[str],
        Meta(
            description="consumer=provider: a fixed namespace mapping; none: <namespace>-<consumer id>, made on demand"
        ),
    ] = []
    namespaces_from_objects: Annotated[
        bool,
        Meta(description="only namespaces with a NamespaceOffloading are mapped, as that says; not with --namespace"),
    ] = False
    provider: Annotated[
        str,
        Meta(description="short name of the provider; virtual nodes with the same one share it; empty: the node's own"),
    ] = ""
    network_peering: Annotated[
        str,
        Meta(
            description="NetworkPeering of the consumer with the provider, by whose plan addresses are translated; "
            "empty: the network is flat"
        ),
    ] = ""
    probe_socket: Annotated[
        str,
        Meta(
            description="unix:/path of `isthmus fabric-agent --role=probe` in the same pod: the Node's "
            "NetworkUnavailable and Ready follow what it measures of the network of --network-peering; empty: nobody "
            "measures"
        ),
    ] = ""
    election_namespace: Annotated[
        str,
        Meta(
            description="consumer namespace of the Lease by which one of a provider's virtual kubelets does what is "
            "namespace-wide; empty: there is only this one"
        ),
    ] = ""
    reflect_kinds: Annotated[
        str,
        Meta(
            description="file that says what is reflected of namespaces as a whole (Services and the like), or "
            "`default`; empty: nothing"
        ),
    ] = ""
    kinds_election_namespace: Annotated[
        str,
        Meta(
            description="provider namespace of the Lease by which one of a provider's virtual kubelets reflects them; "
            "empty: there is only this one"
        ),
    ] = ""
    runtime_class: Annotated[
        list[str],
        Meta(description="`consumer=provider`: a RuntimeClass and what it becomes, `=` none; `isthmus` becomes none"),
    ] = []
    namespace_linger: Annotated[
        float, Meta(description="seconds that an unused namespace of ours stays at the provider")
    ] = 60.0
    reference_linger: Annotated[
        float, Meta(description="seconds that a copied ConfigMap or Secret stays after the last pod that named it")
    ] = 30.0
    pending_timeout: Annotated[
        str,
        Meta(
            description="how long a pod may wait for a place at the provider before it is evicted here, as 5m; "
            "empty: for ever"
        ),
    ] = ""
    resync: Annotated[
        float,
        Meta(description="seconds until pods and copies are listed anew, in case a watch failed to tell", gt=0),
    ] = 600.0
    node_address: Annotated[
        list[str], Meta(description="IP at which the consumer's API server reaches this process (InternalIP)")
    ] = []
    listen: Annotated[str, Meta(description="address:port of the kubelet API")] = "0.0.0.0:10250"
    health_listen: Annotated[str, Meta(description="address:port of /healthz, /readyz and /metrics; empty: none")] = (
        "127.0.0.1:10248"
    )
    capacity: Annotated[
        list[str], Meta(description="`resource=quantity` that the node offers, `cpu=8`; none: by ResourceQuotas")
    ] = []
    storage_class: Annotated[
        list[str],
        Meta(
            description="consumer=provider: a StorageClass and what stands for it there; none: the provider's default"
        ),
    ] = []
    provider_nodes: Annotated[
        Literal["ignore", "watch", "offer"],
        Meta(
            description="look at the provider's nodes (needs `deploy/rbac/provider-inventory.yaml`): `watch` tells the "
            "freest one, `offer` also offers what all have left, at most --capacity"
        ),
    ] = "ignore"
    quota_namespace: Annotated[
        list[str], Meta(description="provider namespace whose ResourceQuotas limit the node; none: the mapped ones")
    ] = []
    node_selector: Annotated[
        list[str],
        Meta(description="`key=value`: label of the provider's nodes for which this one stands"),
    ] = []
    label: Annotated[list[str], Meta(description="`key=value`: a label of the node")] = []
    taint: Annotated[
        list[str], Meta(description="`key=value:effect`; none: `virtual-kubelet.io/provider=isthmus:NoSchedule`")
    ] = []
    os: Annotated[str, Meta(description="operating system of the node; empty: that of most of the provider's")] = ""
    arch: Annotated[str, Meta(description="architecture of the node; empty: that of most of the provider's")] = ""
    client_ca_file: Annotated[
        str,
        Meta(description="CA of the kubelet API's callers; empty: the CA that the consumer's kubeconfig names"),
    ] = ""
    tls_cert_file: Annotated[str, Meta(description="serving certificate; empty: by CertificateSigningRequest")] = ""
    tls_private_key_file: Annotated[str, Meta(description="key of the serving certificate")] = ""
    state_directory: Annotated[str, Meta(description="where the serving certificate is kept between runs")] = (
        "/var/lib/isthmus"
    )
    api_access: Annotated[
        str,
        Meta(description="host:port of the consumer's API server as pods at the provider reach it; empty: no tokens"),
    ] = ""
    cluster_dns: Annotated[
        list[str],
        Meta(
            description="address at the provider of `isthmus dns`: offloaded pods find names as in this cluster; none: "
            "by the provider's own DNS"
        ),
    ] = []
    cluster_domain: Annotated[str, Meta(description="domain of the consumer cluster")] = "cluster.local"
    dry_run: Annotated[bool, Meta(description="print what would be made, and end")] = False


def parse(arguments: Sequence[str], kind: type[T], *, command: str, purpose: str) -> T:
    """Options from flags, over those of the file named by --config. Raises `OptionsError`."""
    given = vars(parser(kind, command=command, purpose=purpose).parse_args(arguments))
    path = given.pop("config", None)
    values = _from_file(Path(path)) if path else {}
    values.update({_kebab(key): value for key, value in given.items() if value is not None})
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise OptionsError(f"options: {error}") from error


def parser(kind: type[msgspec.Struct], *, command: str, purpose: str) -> argparse.ArgumentParser:
    """The command line of `isthmus <command>`."""
    made = argparse.ArgumentParser(prog=f"isthmus {command}", description=purpose)
    made.add_argument("--config", help="YAML file with any of these options")
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        of, meta = get_args(hints[field.name])[:2]
        _add_flag(made, field.encode_name, of, meta.description or "", field.default)
    return made


def _add_flag(made: argparse.ArgumentParser, name: str, kind: Any, text: str, default: Any) -> None:
    described = text if default in (msgspec.NODEFAULT, "", False) else f"{text} (default: {default})"
    flag = f"--{name}"
    if kind is bool:
        made.add_argument(flag, action="store_const", const=True, help=described)
    elif get_origin(kind) is list:
        made.add_argument(flag, action="append", metavar="VALUE", help=text)
    elif get_origin(kind) is Literal:
        made.add_argument(flag, choices=get_args(kind), help=described)
    else:
        made.add_argument(flag, type=kind, metavar="VALUE", help=described)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise OptionsError(f"--config {path}: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise OptionsError(f"--config {path}: expected a mapping of options")
    return values


def _kebab(name: str) -> str:
    return name.replace("_", "-")


def pairs(values: Sequence[str], *, option: str) -> dict[str, str]:
    """`key=value` options as a dict. Raises `OptionsError` for a missing `=` or a repeated key."""
    found: dict[str, str] = {}
    for text in values:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise OptionsError(f"--{option} {text!r}: expected key=value")
        if key in found:
            raise OptionsError(f"--{option} {text!r}: {key!r} was given before")
        found[key] = value
    return found


def host_port(text: str, *, option: str) -> tuple[str, int]:
    """`host:port` (IPv6 in brackets). Raises `OptionsError`."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise OptionsError(f"--{option} {text!r}: expected host:port")
    return host.strip("[]") or "0.0.0.0", int(port)


def table(kind: type[msgspec.Struct]) -> str:
    """The options as a Markdown table, for docs/operations.md."""
    rows = ["| flag | default | meaning |", "|---|---|---|"]
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        of, meta = get_args(hints[field.name])[:2]
        repeated = " (repeated)" if get_origin(of) is list else ""
        plain = isinstance(field.default, str | float) and field.default not in ("", False)
        default = "required" if field.required else f"`{field.default}`" if plain else ""
        rows.append(f"| `--{field.encode_name}`{repeated} | {default} | {meta.description} |")
    return "\n".join(rows)
