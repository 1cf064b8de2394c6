"""`make demo`: two real clusters, isthmus between them, an application across; then shown by real kubectl calls.

Safe to run twice: what stands already is used. `--stop` stops isthmus; `python -m deploy.lab down` removes the rest.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from deploy import stack
from deploy.lab.cluster import LabCluster
from deploy.lab.errors import LabError
from deploy.lab.lab import Lab
from deploy.lab.process import Unit, wait_until
from deploy.lab.settings import LabSettings

NODE = "virtual-1"
CONSUMER_ID = "demo"
NAMESPACE = "hello"


def main() -> int:
    """Run or stop the demo; the exit status."""
    try:
        if "--stop" in sys.argv[1:]:
            _stop()
        else:
            _run()
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def _run() -> None:
    lab = _lab()
    node = _isthmus(lab)
    _say("deploying deploy/examples/hello.yaml at the consumer")
    lab.consumer.kubectl("apply", "-f", stack.manifest("hello"))
    lab.consumer.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/hello", "--timeout=120s", timeout=130)
    _show(lab, node)


def _lab() -> Lab:
    settings = LabSettings.from_env(os.environ)
    try:
        lab = Lab.open(settings.name)
    except LabError:
        return Lab.up(settings)
    _say(f"lab {settings.name} is up already")
    return lab


def _isthmus(lab: Lab) -> stack.VirtualNode:
    _say("starting isthmus: one virtual node, with the rights of deploy/rbac and no more")
    stack.grant(lab.provider, consumer_id=CONSUMER_ID)
    node = stack.start(lab, node=NODE, consumer_id=CONSUMER_ID)
    node.wait_ready()
    node.wait_serving()
    return node


def _stop() -> None:
    settings = LabSettings.from_env(os.environ)
    try:
        lab = Lab.open(settings.name)
        host = lab.add_host(NODE)
        Unit.load(host.folder, "virtual-kubelet").stop()
    except LabError:
        return
    _say(f"stopped isthmus ({NODE})")


def _show(lab: Lab, node: stack.VirtualNode) -> None:
    consumer = Path(lab.output / "consumer.kubeconfig")
    provider = Path(lab.output / "provider.kubeconfig")
    pod = lab.consumer.kubectl(
        "-n", NAMESPACE, "get", "pods", "-l", "app=hello", "-o", "jsonpath={.items[0].metadata.name}"
    ).strip()
    wait_until(lambda: _has_logs(lab.consumer, pod), what="the first log line", timeout=30)
    _command(lab, consumer, "get nodes -o wide", "The consumer's nodes: virtual-1 is the provider.")
    _command(lab, consumer, f"-n {NAMESPACE} get pods -o wide", "Its pods, placed by its own scheduler.")
    _command(lab, provider, f"-n {NAMESPACE}-{CONSUMER_ID} get pods -o wide", "The same pods where they really run.")
    _command(lab, consumer, f"-n {NAMESPACE} logs {pod} --tail=3", "Logs, through the consumer's API server.")
    shell = "echo $GREETING; echo I believe to be in $NAMESPACE on $NODE; cat /etc/password/password; echo"
    _command(
        lab,
        consumer,
        f"-n {NAMESPACE} exec {pod} -- sh -c {shlex.quote(shell)}",
        "exec; the ConfigMap and Secret came along.",
    )
    _command(lab, consumer, f"-n {NAMESPACE} get events --sort-by=.lastTimestamp", "What happened to them.")
    _say(
        f"""
How to go on:
  source {_relative(lab.output / "env")}
  kubectl -n {NAMESPACE} scale deployment hello --replicas=5
  kubectl -n {NAMESPACE} exec -it {pod} -- sh
  kubectl -n {NAMESPACE} port-forward {pod} 8080
  kubectl top nodes; kubectl -n {NAMESPACE} top pods
  isthmus's log: {node.unit.log}
  make lab-down          removes everything"""
    )


def _command(lab: Lab, kubeconfig: Path, arguments: str, title: str) -> None:
    _say(f"\n# {title}\n$ kubectl --kubeconfig {_relative(kubeconfig)} {arguments}")
    command = [str(lab.consumer.plan.binaries / "kubectl"), f"--kubeconfig={kubeconfig}", *shlex.split(arguments)]
    if subprocess.run(command, check=False, timeout=60).returncode != 0:
        raise LabError(f"kubectl {arguments} failed")


def _has_logs(cluster: LabCluster, pod: str) -> bool:
    try:
        return bool(cluster.kubectl("-n", NAMESPACE, "logs", pod).strip())
    except LabError:
        return False


def _say(text: str) -> None:
    print(text, flush=True)


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main())
