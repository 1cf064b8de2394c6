"""Options: flags over file, unknown keys refused, errors that name the option."""

from pathlib import Path

import pytest

from deploy.lab.paths import ROOT
from isthmus import options
from isthmus.dns import DnsOptions
from isthmus.fabric_agent import FabricAgentOptions
from isthmus.modules.options import ManagerOptions
from isthmus.options import Options


def parse(*arguments: str) -> Options:
    return options.parse(arguments, Options, command="virtual-kubelet", purpose="")


def test_a_flag_goes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "isthmus.yaml"
    file.write_text("node-name: from-file\nlog-level: debug\ncapacity: [cpu=4]\n")
    chosen = parse(f"--config={file}", "--node-name=from-flag")
    assert (chosen.node_name, chosen.log_level, chosen.capacity) == ("from-flag", "debug", ["cpu=4"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("node-name: a\nnode_adress: x\n", "node_adress"),
        ("node-name: a\nnamespace-linger: soon\n", "namespace-linger"),
        ("- node-name\n", "mapping"),
        ("node-name: [", "isthmus.yaml"),
        ("log-level: debug\n", "node-name"),
    ],
)
def test_a_bad_file_is_refused_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "isthmus.yaml"
    file.write_text(text)
    with pytest.raises(options.OptionsError, match=said):
        parse(f"--config={file}")


def test_lists_are_repeated_flags() -> None:
    chosen = parse("--node-name=a", "--namespace=x=y", "--namespace=z=w")
    assert options.pairs(chosen.namespace, option="namespace") == {"x": "y", "z": "w"}


@pytest.mark.parametrize("values", [["x"], ["=y"], ["x=1", "x=2"]])
def test_bad_pairs_name_the_option(values: list[str]) -> None:
    with pytest.raises(options.OptionsError, match="--label"):
        options.pairs(values, option="label")


@pytest.mark.parametrize(
    ("text", "wanted"), [("1.2.3.4:80", ("1.2.3.4", 80)), ("[::1]:80", ("::1", 80)), (":80", ("0.0.0.0", 80))]
)
def test_host_and_port(text: str, wanted: tuple[str, int]) -> None:
    assert options.host_port(text, option="listen") == wanted


@pytest.mark.parametrize("text", ["80", "host", "host:", "host:http", "host:65536"])
def test_bad_host_and_port(text: str) -> None:
    with pytest.raises(options.OptionsError, match="--listen"):
        options.host_port(text, option="listen")


def test_the_documented_table_is_up_to_date() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert options.table(Options) in text
    assert options.table(ManagerOptions) in text
    assert options.table(FabricAgentOptions) in text
    assert options.table(DnsOptions) in text
