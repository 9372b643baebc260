"""Worker processes: their start, how they end, and the cycle collector, which runs by the clock."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pushrail_stream.cli import run
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.sandbox.broker import EmbeddedBroker
from tests.support.builders import event
from tests.support.commands import Shell
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import committed, make_topics, produce, settings_for


class Cycle:
    """An object that holds itself."""

    def __init__(self) -> None:
        self.itself = self


async def test_a_quiet_worker_releases_reference_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_COLLECT_SECS", 0.001)
    threshold = gc.get_threshold()
    gc.set_threshold(100_000, 20, 20)
    try:
        held = Cycle()
        gc.collect()  # the cycle is of the oldest generation now
        released, gone = asyncio.Event(), weakref.ref(held)
        weakref.finalize(held, released.set)
        del held
        run.collect_now_and_then(asyncio.get_running_loop())
        async with asyncio.timeout(PATIENCE_SECS):
            await released.wait()
        assert gone() is None
    finally:
        gc.set_threshold(*threshold)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_wrong_folder_of_documents_decides_no_start(
    embedded_broker: EmbeddedBroker, shell: Shell, tmp_path: Path, workers: str
) -> None:
    """The offsets of a new group stay free until the rest of the set-up is right."""
    absent = {"path": str(tmp_path / "absent")}
    settings = settings_for(embedded_broker.bootstrap_servers, "http://127.0.0.1:1", registry=absent)
    make_topics(settings, embedded_broker)
    asyncio.run(produce(settings, [("acct_0", event(0))]))
    config = tmp_path / "pushrail.yaml"
    values = settings.model_dump(mode="json")
    values["kafka"]["start"] = "latest"
    config.write_text(yaml.safe_dump(values))
    code, _, err = shell("run", "--config", str(config), "--workers", workers)
    assert code == UsageError.exit_code
    assert "absent: no directory of destination documents" in err
    assert "first_start" not in err
    assert sum(committed(settings).values()) == 0


@pytest.mark.parametrize(("exit_code", "kind"), [(2, UsageError), (1, OperatorError), (-9, OperatorError)])
def test_the_command_ends_as_its_worker_did(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, exit_code: int, kind: type[OperatorError]
) -> None:
    failed = SimpleNamespace(name="worker 2", exitcode=exit_code)
    monkeypatch.setattr(run._Crew, "run", lambda _: failed)
    monkeypatch.setattr(run, "_decide_start", lambda *_: None)
    code, _, err = shell("run", "--workers", "2")
    assert code == kind.exit_code
    assert err.endswith(f"error: worker 2 ended with exit code {exit_code}; the others were stopped\n")
