"""The watcher applies changes of documents, and reports a source that it cannot read."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused, RegistryChanged, RegistryTrouble, Signal
from pushrail_stream.errors import OperatorError, TopicRecreated, UsageError
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry import watcher
from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.registry.folder import Folder
from pushrail_stream.registry.watcher import RegistryWatcher
from tests.support.catalogs import followed, parse, until_told
from tests.support.documents import ACCESS_KEY, customer, write
from tests.support.patience import PATIENCE_SECS


async def test_the_watcher_follows_a_folder(tmp_path: Path) -> None:
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


class Interrupted:
    """Documents that cannot be read between the first and the second. Implements `ports.DocumentSource`."""

    def __init__(self, *troubles: Exception) -> None:
        first, second = (json.dumps(customer(name)).encode() for name in "ab")
        self._story: list[Exception | DocumentChange] = [
            DocumentChange("a", first),
            *troubles,
            DocumentChange("b", second),
        ]

    async def changes(self) -> list[DocumentChange]:
        if not self._story:
            await asyncio.Event().wait()
        part = self._story.pop(0)
        if isinstance(part, Exception):
            raise part
        return [part]


@pytest.mark.parametrize(
    ("pause_secs", "troubles"),
    [
        (
            0.01,
            [
                OperatorError("documents cannot be read at kafka:9092: authorization failed"),
                UsageError("documents: no directory"),
            ],
        ),
        pytest.param(3600, [TopicRecreated("documents was created again")], id="a recreated topic, at once"),
    ],
)
async def test_an_unreadable_source_is_read_again(
    monkeypatch: pytest.MonkeyPatch, pause_secs: float, troubles: list[Exception]
) -> None:
    monkeypatch.setattr(watcher, "_RETRY_SECS", pause_secs)
    catalog, signals, told = Catalog(parse), list[Signal](), asyncio.Event()

    def observe(signal: Signal) -> None:
        signals.append(signal)
        told.set()

    registry = RegistryWatcher(catalog, Interrupted(*troubles))
    await registry.load(observe)
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(registry.follow(observe))
        async with asyncio.timeout(PATIENCE_SECS):
            while len(catalog) < 2:
                told.clear()
                await told.wait()
        keeping.cancel()
    assert [signal for signal in signals if isinstance(signal, RegistryTrouble)] == [
        RegistryTrouble(str(trouble)) for trouble in troubles
    ]


async def test_a_missing_folder_fails_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no directory of destination documents"):
        await RegistryWatcher(Catalog(parse), Folder(tmp_path / "none")).load(lambda _signal: None)
