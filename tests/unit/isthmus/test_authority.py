"""The callers' CA is followed."""

import asyncio
from pathlib import Path

import pytest

from isthmus.authority import AuthorityFile
from kube.errors import ConfigError
from tests.unit.kube.fakeapi import until


async def test_f24_an_exchanged_authority_is_taken_over_and_a_broken_one_is_not(tmp_path: Path) -> None:
    file, source = tmp_path / "state" / "ca.pem", tmp_path / "source"

    def read() -> bytes | None:
        if not source.exists():
            raise ConfigError("half-written")
        return source.read_bytes()

    source.write_bytes(b"first")
    followed = AuthorityFile(file, read, period=0.01)
    assert followed.write()
    before = file.stat().st_ino
    task = asyncio.create_task(followed.run())
    source.unlink()
    await asyncio.sleep(0.1)
    assert file.stat().st_ino == before, "unchanged, it is not written: the server would load it anew"
    source.write_bytes(b"second")
    await until(lambda: file.read_bytes() == b"second")
    task.cancel()
    await asyncio.wait([task])


def test_no_authority_is_no_file(tmp_path: Path) -> None:
    assert not AuthorityFile(tmp_path / "ca.pem", lambda: None).write()
    assert not (tmp_path / "ca.pem").exists()


def test_what_cannot_be_read_at_the_start_is_told(tmp_path: Path) -> None:
    def read() -> bytes | None:
        raise ConfigError("no such kubeconfig")

    with pytest.raises(ConfigError):
        AuthorityFile(tmp_path / "ca.pem", read).write()
