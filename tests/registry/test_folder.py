"""The folder and the live registry: what changes on disk is in use soon, and an accident changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused, RegistryChanged, RegistryTrouble, Signal
from pushrail_stream.ports import DocumentChange, Failed
from pushrail_stream.registry import Catalog, Folder, LiveRegistry, RegistryError, folder, live
from tests.registry.documents import ACCESS_KEY, customer, write
from tests.registry.test_catalog import parse

IN_FORCE_SECS = 5.0
"""What is promised."""
LOOK_SECS = folder.LOOK_SECS


def test_a_look_comes_soon_enough_for_what_is_promised() -> None:
    """At worst a change is seen by the look after the one that was under way, and then it has to be taken in."""
    assert 2 * LOOK_SECS < IN_FORCE_SECS


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "LOOK_SECS", 0.01)


@asynccontextmanager
async def followed(path: Path) -> AsyncIterator[tuple[Catalog, list[Signal], asyncio.Event]]:
    """A registry on this folder, kept up to date; the event is set at every signal."""
    catalog, signals, changed = Catalog(parse), list[Signal](), asyncio.Event()

    def observe(signal: Signal) -> None:
        signals.append(signal)
        changed.set()

    registry = LiveRegistry(catalog, Folder(path))
    await registry.start(observe)
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(registry.keep(observe))
        yield catalog, signals, changed
        keeping.cancel()


async def until_told(signals: list[Signal], changed: asyncio.Event, kind: type[Signal]) -> Signal:
    async with asyncio.timeout(60):
        while True:
            for signal in signals:
                if isinstance(signal, kind):
                    return signal
            changed.clear()
            await changed.wait()


async def test_the_first_look_finds_everything_and_the_next_what_changed(tmp_path: Path) -> None:
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


async def test_a_rewrite_of_the_same_length_and_a_replaced_file_are_seen(tmp_path: Path) -> None:
    write(tmp_path, a=b"1")
    documents = Folder(tmp_path)
    await documents.changes()
    write(tmp_path, a=b"2")
    assert [change.content for change in await documents.changes()] == [b"2"]
    (tmp_path / "new").write_bytes(b"3")
    (tmp_path / "new").rename(tmp_path / "a.json")
    assert [change.content for change in await documents.changes()] == [b"3"]


async def test_a_dangling_link_is_named_and_read_once_it_leads_somewhere(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to(tmp_path / "target")
    documents = Folder(tmp_path)
    [change] = await documents.changes()
    assert (change.content, change.problem) == (None, "cannot be read: no such file or directory")
    (tmp_path / "target").write_bytes(b"1")
    assert [change.content for change in await documents.changes()] == [b"1"]


async def test_a_live_registry_follows_its_folder(tmp_path: Path) -> None:
    write(tmp_path, a=customer("a"), keyed=customer("keyed", auth=ACCESS_KEY))
    async with followed(tmp_path) as (catalog, signals, changed):
        assert signals == [
            DocumentCaveat(
                str(tmp_path / "keyed.json"),
                "auth.secretAccessKey",
                "environment variable ACME_SECRET is not set: nothing is sent",
            ),
            RegistryChanged(("dst_a", "dst_keyed"), (), 2, 0),
        ]
        signals.clear()
        write(tmp_path, a=customer("a", enabled=False))
        await until_told(signals, changed, RegistryChanged)
        off = catalog.get("dst_a")
        assert off is not None
        assert not off.enabled
        signals.clear()
        text = json.dumps(customer("a")).encode()
        write(tmp_path, a=text[: len(text) // 2])
        refused = await until_told(signals, changed, DocumentRefused)
        assert isinstance(refused, DocumentRefused)
        assert refused.document == str(tmp_path / "a.json")
        assert catalog.get("dst_a") is off


async def test_a_folder_that_is_suddenly_empty_or_gone_is_an_accident(tmp_path: Path) -> None:
    documents = write(tmp_path / "documents", a=customer("a"), b=customer("b"))
    async with followed(documents) as (catalog, signals, changed):
        for file in documents.iterdir():
            file.unlink()
        trouble = await until_told(signals, changed, RegistryTrouble)
        assert trouble == RegistryTrouble(
            f"{documents}: all 2 documents are gone at once: the last good ones stay for a minute"
        )
        assert len(catalog) == 2


async def test_documents_that_stay_gone_are_taken_for_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_RETRY_SECS", 0.01)
    documents = write(tmp_path / "documents", a=customer("a"), b=customer("b"))
    async with followed(documents) as (catalog, signals, changed):
        signals.clear()
        for file in documents.iterdir():
            file.unlink()
        assert await until_told(signals, changed, RegistryChanged) == RegistryChanged((), ("dst_a", "dst_b"), 0, 0)
        assert sum(isinstance(signal, RegistryTrouble) for signal in signals) > 5, "it is said all the time before"
        assert len(catalog) == 0


async def test_another_empty_folder_in_its_place_is_a_volume_that_is_not_mounted(tmp_path: Path) -> None:
    documents = write(tmp_path / "documents", a=customer("a"), b=customer("b"))
    read = Folder(documents)
    assert len(await read.changes()) == 2
    documents.rename(tmp_path / "elsewhere")
    documents.mkdir()
    for _ in range(50):
        with pytest.raises(RegistryError, match="all 2 documents are gone at once"):
            await read.changes()
    documents.rmdir()
    (tmp_path / "elsewhere").rename(documents)
    write(documents, a=b"2")
    assert [change.content for change in await read.changes()] == [b"2"]


class Interrupted:
    """Documents that cannot be read between the first and the second. Implements `ports.Documents`."""

    def __init__(self) -> None:
        first, second = (json.dumps(customer(name)).encode() for name in "ab")
        self._story: list[Exception | DocumentChange] = [
            DocumentChange("a", first),
            Failed("documents cannot be read at kafka:9092: authorization failed"),
            RegistryError("documents: no directory"),
            DocumentChange("b", second),
        ]

    async def changes(self) -> list[DocumentChange]:
        if not self._story:
            await asyncio.Event().wait()
        part = self._story.pop(0)
        if isinstance(part, Exception):
            raise part
        return [part]


async def test_what_cannot_be_read_for_a_while_is_told_of_and_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_RETRY_SECS", 0.01)
    catalog, signals, told = Catalog(parse), list[Signal](), asyncio.Event()

    def observe(signal: Signal) -> None:
        signals.append(signal)
        told.set()

    registry = LiveRegistry(catalog, Interrupted())
    await registry.start(observe)
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(registry.keep(observe))
        async with asyncio.timeout(60):
            while len(catalog) < 2:
                told.clear()
                await told.wait()
        keeping.cancel()
    assert [signal for signal in signals if isinstance(signal, RegistryTrouble)] == [
        RegistryTrouble("documents cannot be read at kafka:9092: authorization failed"),
        RegistryTrouble("documents: no directory"),
    ]


async def test_without_a_folder_there_is_nothing_to_start_with(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no directory of destination documents"):
        await LiveRegistry(Catalog(parse), Folder(tmp_path / "none")).start(lambda _signal: None)
