"""The generated code is what the contract says; the contract keeps its promises."""

from pathlib import Path

from deploy import protocol
from netfabric._pb import fabric_pb2


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    made = protocol.generate(tmp_path)
    committed = sorted(path.relative_to(protocol.ROOT) for path in (protocol.ROOT / protocol.PACKAGE).glob("*_pb2*"))
    assert made == committed, "run python -m deploy.protocol"
    stale = [str(path) for path in made if (tmp_path / path).read_text() != (protocol.ROOT / path).read_text()]
    assert not stale, "run python -m deploy.protocol"


def test_a_key_by_value_is_marked_as_a_secret() -> None:
    option = fabric_pb2.Key.DESCRIPTOR.fields_by_name["value"].GetOptions()
    assert option.debug_redact
