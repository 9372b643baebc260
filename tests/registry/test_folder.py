"""The folder and the live registry: a change on disk is in use soon, and an accident changes nothing."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from pushrail_stream import files
from pushrail_stream.core.signals import DocumentRefused, RegistryChanged, RegistryTrouble
from pushrail_stream.errors import UsageError
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry import folder, watcher
from pushrail_stream.registry.folder import Folder
from tests.support.catalogs import followed, until_told
from tests.support.documents import customer, write
from tests.support.hung_mount import hung_mount, until_stuck
from tests.support.patience import PATIENCE_SECS

IN_FORCE_SECS = 5.0
"""The promised time until a change is in use, in seconds."""
LOOK_SECS = folder.LOOK_SECS


def test_looks_are_frequent_enough_for_the_promise() -> None:
    """At worst a change is seen by the look after the one that was in flight, and then it has to be taken in."""
    assert 2 * LOOK_SECS < IN_FORCE_SECS


async def test_a_change_is_seen_among_many_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_secs = 0.0

    def read_slowly(file: Path) -> DocumentChange:
        nonlocal cpu_secs
        cpu_secs += 0.05
        return DocumentChange(str(file), file.read_bytes())

    monkeypatch.setattr(time, "thread_time", lambda: cpu_secs)
    monkeypatch.setattr(folder, "read_document", read_slowly)
    write(tmp_path, **{f"d{n}": customer(str(n)) for n in range(20)})
    documents = Folder(tmp_path)
    await documents.changes()
    write(tmp_path, d3=customer("new"))
    async with asyncio.timeout(IN_FORCE_SECS):
        assert [Path(change.name).name for change in await documents.changes()] == ["d3.json"]


async def test_later_looks_find_only_changes(tmp_path: Path) -> None:
    write(tmp_path, a=customer("a"), b=customer("b"))
    documents = Folder(tmp_path)
    assert {Path(change.name).name for change in await documents.changes()} == {"a.json", "b.json"}
    (tmp_path / "a.json").unlink()
    write(tmp_path, c=b"{}")
    assert sorted(await documents.changes()) == [
        DocumentChange(str(tmp_path / "a.json"), None),
        DocumentChange(str(tmp_path / "c.json"), b"{}"),
    ]


async def test_documents_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = [f"{number:02}" for number in range(50)]
    write(tmp_path, **dict.fromkeys(reversed(names), b"1"))
    assert [Path(change.name).stem for change in await Folder(tmp_path).changes()] == names


async def test_rewrites_and_replacements_are_seen(tmp_path: Path) -> None:
    write(tmp_path, a=b"1")
    documents = Folder(tmp_path)
    await documents.changes()
    write(tmp_path, a=b"2")
    assert [change.content for change in await documents.changes()] == [b"2"]
    (tmp_path / "new").write_bytes(b"3")
    (tmp_path / "new").rename(tmp_path / "a.json")
    assert [change.content for change in await documents.changes()] == [b"3"]


async def test_a_dangling_link_is_read_when_mended(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to(tmp_path / "target")
    documents = Folder(tmp_path)
    [change] = await documents.changes()
    assert (change.content, change.problem) == (None, "cannot be read: no such file or directory")
    (tmp_path / "target").write_bytes(b"1")
    assert [change.content for change in await documents.changes()] == [b"1"]


async def test_a_vanished_folder_changes_nothing(tmp_path: Path) -> None:
    documents = write(tmp_path / "documents", a=customer("a"), b=customer("b"))
    async with followed(documents) as (catalog, signals, changed):
        for file in documents.iterdir():
            file.unlink()
        trouble = await until_told(signals, changed, RegistryTrouble)
        assert trouble == RegistryTrouble(
            f"{documents}: all 2 documents are gone at once: the last good ones stay for a minute"
        )
        assert len(catalog) == 2


async def test_documents_that_stay_gone_count_as_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "_RETRY_SECS", 0.01)
    documents = write(tmp_path / "documents", a=customer("a"), b=customer("b"))
    async with followed(documents) as (catalog, signals, changed):
        signals.clear()
        for file in documents.iterdir():
            file.unlink()
        assert await until_told(signals, changed, RegistryChanged) == RegistryChanged((), ("dst_a", "dst_b"), 0, 0)
        assert sum(isinstance(signal, RegistryTrouble) for signal in signals) > 5, "it is said all the time before"
        assert len(catalog) == 0


async def test_an_unmounted_volume_deletes_nothing(tmp_path: Path) -> None:
    documents = write(tmp_path / "documents", a=customer("a"), b=customer("b"))
    read = Folder(documents)
    assert len(await read.changes()) == 2
    documents.rename(tmp_path / "elsewhere")
    documents.mkdir()
    for _ in range(50):
        with pytest.raises(UsageError, match="all 2 documents are gone at once"):
            await read.changes()
    documents.rmdir()
    (tmp_path / "elsewhere").rename(documents)
    write(documents, a=b"2")
    assert [change.content for change in await read.changes()] == [b"2"]


async def test_a_named_pipe_stops_no_other_file(tmp_path: Path) -> None:
    write(tmp_path, a=customer("a"))
    os.mkfifo(tmp_path / "pipe.json")
    async with followed(tmp_path) as (catalog, signals, changed):
        assert DocumentRefused(str(tmp_path / "pipe.json"), "", "cannot be read: not a regular file") in signals
        write(tmp_path, b=customer("b"))
        signals.clear()
        await until_told(signals, changed, RegistryChanged)
        assert [destination.id for destination in catalog] == ["dst_a", "dst_b"]


@contextmanager
def silent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(files, "ANSWER_SECS", 0.1)
    with hung_mount(folder):
        yield


async def test_a_hung_file_stops_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere, documents = tmp_path / "elsewhere", tmp_path / "documents"
    write(elsewhere, hung=customer("hung"))
    write(documents, a=customer("a"), z=customer("z"))
    (documents / "hung.json").symlink_to(elsewhere / "hung.json")
    read = Folder(documents)
    with silent(elsewhere, monkeypatch):
        first = await read.changes()
        assert [(Path(change.name).stem, change.problem) for change in first] == [
            ("a", ""),
            ("hung", "cannot be read: does not answer"),
            ("z", ""),
        ]
        write(documents, b=customer("b"))
        assert [Path(change.name).stem for change in await read.changes()] == ["b"]
        until_stuck(1)
    async with asyncio.timeout(PATIENCE_SECS):
        while [change.content for change in await read.changes()] != [json.dumps(customer("hung")).encode()]:
            pass


async def test_a_hung_folder_blocks_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = write(tmp_path / "documents", a=customer("a"))
    read = Folder(documents)
    await read.changes()
    with silent(documents, monkeypatch):
        for _ in range(3):
            with pytest.raises(UsageError, match="does not answer: nothing changes until it does"):
                await read.changes()
        until_stuck(1)


async def test_many_hung_files_block_few_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere, documents = tmp_path / "elsewhere", tmp_path / "documents"
    elsewhere.mkdir()
    documents.mkdir()
    for number in range(30):
        (documents / f"{number}.json").symlink_to(elsewhere / "target")
    read = Folder(documents)
    with silent(elsewhere, monkeypatch):
        for _ in range(3):
            with pytest.raises(UsageError, match="9 files do not answer: nothing changes until they do"):
                await read.look()
        until_stuck(9)


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the test's own files and folder that are opened from now on."""
    names: list[str] = []
    system = os.open

    def spy(path: str, flags: int, *args: int) -> int:
        if Path(path).is_relative_to(tmp_path):
            names.append(Path(path).name)
        return system(path, flags, *args)

    monkeypatch.setattr("os.open", spy)
    return names


async def test_a_look_reads_only_changed_files(tmp_path: Path, opened: list[str]) -> None:
    write(tmp_path, **{f"n{number}": customer(f"n{number}") for number in range(20)})
    read = Folder(tmp_path)
    assert len(await read.look()) == 20
    await read.look()  # again, for they have only just been written
    opened.clear()
    for _ in range(3):
        assert await read.look() == []
    assert opened == [tmp_path.name] * 3
    write(tmp_path, n7=b"{}")
    assert [change.content for change in await read.look()] == [b"{}"]
    await read.look()
    assert await read.look() == []
    assert opened.count("n7.json") == 2
    assert sum(name.endswith(".json") for name in opened) == 2


async def test_two_changes_within_one_clock_tick_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, tick = os.stat, time.time_ns()

    def coarse(name: str, *, dir_fd: int) -> SimpleNamespace:
        """The status on a file system whose clock stands still."""
        status = system(name, dir_fd=dir_fd)
        return SimpleNamespace(
            st_mode=status.st_mode,
            st_mtime_ns=tick,
            st_ctime_ns=tick,
            st_size=status.st_size,
            st_ino=status.st_ino,
        )

    write(tmp_path, a=b"1", b=b"1")
    read = Folder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("os.stat", coarse)
        assert [change.content for change in await read.look()] == [b"1", b"1"]
        (tmp_path / "a.json").write_bytes(b"2")
        assert [change.content for change in await read.look()] == [b"2"]
        assert await read.look() == []


async def test_an_unreadable_file_is_read_again_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, a=b"1")
    read, system = Folder(tmp_path), os.open

    def exhausted(path: str, flags: int, *args: int) -> int:
        if str(path).endswith(".json"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return system(path, flags, *args)

    with monkeypatch.context() as patch:
        patch.setattr("os.open", exhausted)
        assert [change.problem for change in await read.look()] == ["cannot be read: too many open files"]
        assert await read.look() == [], "the same trouble is told once"
    assert [change.content for change in await read.look()] == [b"1"]
