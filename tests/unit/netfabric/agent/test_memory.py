"""What is kept on disk is the owner's alone, and whole."""

from __future__ import annotations

from pathlib import Path

from netfabric.agent.memory import Memory
from netfabric.agent.tables import Fingerprint


def test_a_state_is_kept_for_the_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    memory = Memory(folder)
    assert memory.load_state() is None
    memory.save_state(b"one")
    memory.save_state(b"two")
    memory.save_firewall(Fingerprint("x", "y"))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    again = Memory(folder)
    assert (again.load_state(), again.load_firewall()) == (b"two", Fingerprint("x", "y"))
    again.forget()
    assert not folder.exists()


def test_a_fingerprint_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "firewall.json").write_text("{")
    assert Memory(tmp_path).load_firewall() == Fingerprint()
