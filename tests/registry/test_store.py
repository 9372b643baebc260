"""Files are old or new at any moment, keep their rights, and are changed by one process at a time."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pushrail_stream.errors import UsageError
from pushrail_stream.registry.store import FolderStore, changing_alone, replace_file


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def rights(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_a_file_is_replaced_and_not_written_over(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b"old")
    with file.open("rb") as reader:
        replace_file(file, b"new")
        assert reader.read() == b"old", "who reads it sees all of the old one"
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UsageError, match=r"a\.json: cannot be written: no space left on device"):
        replace_file(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_write_is_on_disk_when_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []

    def sync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr("os.fsync", sync)
    replace_file(tmp_path / "a.json", b"new")
    content, folder = synced
    assert (content.parent, folder) == (tmp_path, tmp_path)


def test_a_file_keeps_its_rights(tmp_path: Path) -> None:
    with umask(0o027):
        replace_file(tmp_path / "document", b"1")
        replace_file(tmp_path / "keyring", b"1", is_private=True)
    assert (rights(tmp_path / "document"), rights(tmp_path / "keyring")) == (0o640, 0o600)
    (tmp_path / "keyring").chmod(0o440)
    replace_file(tmp_path / "keyring", b"2", is_private=True)
    assert rights(tmp_path / "keyring") == 0o440


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "keyring"
    file.write_bytes(b"1")
    os.chown(file, 12_345, 23_456)
    replace_file(file, b"2")
    assert (file.stat().st_uid, file.stat().st_gid) == (12_345, 23_456)


def test_the_target_of_a_link_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "a.json", tmp_path / "a.json"
    target.write_bytes(b"old")
    link.symlink_to(target)
    replace_file(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


async def test_only_a_missing_file_is_gone(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    assert await store.read(str(tmp_path / "none.json")) is None
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(UsageError, match=r"folder\.json: cannot be read: is a directory"):
        await store.read(str(tmp_path / "folder.json"))


def test_the_lock_lets_one_process_change_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keyring"
    file.write_bytes(b"")

    def add(what: bytes) -> None:
        with changing_alone(file):
            replace_file(file, file.read_bytes() + what)

    other = threading.Thread(target=add, args=(b"b",))
    with changing_alone(file):
        before = file.read_bytes()
        other.start()
        other.join(0.2)  # time enough to change it, were it let
        replace_file(file, before + b"a")
    other.join()
    assert file.read_bytes() == b"ab"


def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match=r"pipe: cannot be written: not a regular file"):
        replace_file(pipe, b"{}")
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
