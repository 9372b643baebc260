"""``destinations pause`` and ``destinations resume``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pushrail_stream.operations import resuming
from pushrail_stream.operations.document_changes import plan_switch
from pushrail_stream.operations.replay import ReplayLimits, ReplayResult
from pushrail_stream.settings.model import Settings
from tests.support.commands import Shell
from tests.support.documents import customer, write

pytestmark = pytest.mark.usefixtures("one_destination")
ID = "dst_acme_8K2zRq"


def test_a_destination_is_paused(shell: Shell) -> None:
    write(Path("config/destinations"), other=customer("other"))
    assert shell("destinations", "pause", ID, "--dry-run")[1].startswith(f"{ID}: would be paused")
    assert shell("destinations", "pause", ID)[1].startswith(f"{ID}: paused")
    code, out, _ = shell("destinations", "pause", ID, "dst_other", "--json")
    assert (code, [json.loads(line)["result"] for line in out.splitlines()]) == (0, ["unchanged", "paused"])
    assert json.loads(shell("destinations", "show", ID)[1])["paused"] is True
    assert "paused" in shell("destinations", "list")[1].splitlines()[1].split()


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[ReplayLimits]:
    """A resumption that sends two events, and leaves one out."""
    seen = list[ReplayLimits]()

    def resume(settings: Settings, destination_id: str, limits: ReplayLimits, _progress: Any) -> resuming.Resumed:
        seen.append(limits)
        (change,) = plan_switch(settings, [destination_id], "paused", on=False)
        left_out = Counter({"no longer in the topic": 1})
        found = [ReplayResult("rp-1", Counter(), Counter()), ReplayResult("rp-2", Counter({ID: 2}), left_out)]
        return resuming.Resumed(change, found)

    monkeypatch.setattr(resuming, "resume_destination", resume)
    return seen


def test_a_resumption_tells_what_is_sent(shell: Shell, replays: list[ReplayLimits]) -> None:
    shell("destinations", "pause", ID)
    code, out, err = shell("destinations", "resume", ID, "--rate", "5")
    assert code == 0
    assert out.splitlines() == [
        f"{ID}: resumed (config/destinations/acme.json)",
        "left out: 1, no longer in the topic",
        "2 skipped events are on their way",
    ]
    assert "`attempts --replay rp-2` shows their attempts" in err
    assert replays == [ReplayLimits(per_second=5)]
    out = shell("destinations", "resume", ID, "--dry-run")[1]
    assert out.splitlines()[0].startswith(f"{ID}: would be resumed")
    assert out.splitlines()[-1] == "2 skipped events would be sent"


def test_a_resumption_as_json(shell: Shell, replays: list[ReplayLimits]) -> None:
    told = json.loads(shell("destinations", "resume", ID, "--json")[1])
    assert told.pop("at")
    assert told == {
        "id": ID,
        "result": "not paused",
        "document": "config/destinations/acme.json",
        "dryRun": False,
        "sent": 2,
        "replays": [
            {"replay": "rp-1", "count": 0, "leftOut": {}},
            {"replay": "rp-2", "count": 2, "leftOut": {"no longer in the topic": 1}},
        ],
    }
    assert json.loads(shell("destinations", "resume", ID, "--json", "--dry-run")[1])["sent"] == 0
    assert len(replays) == 2
