"""The command `replay`: its options, and what each of them excludes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pushrail_stream.operations.replay import ReplayLimits, ReplayResult
from tests.support.commands import Shell

pytestmark = pytest.mark.usefixtures("one_destination")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("events",), "--since: is required, unless --resume goes on with a replay"),
        (("events", "--since", "2h"), "--customer, --destination, --event-type: one of them is required"),
        (("events", "--all", "--since", "2h", "--until", "3h"), "--until: must be later than --since"),
        (("events", "--resume", "rp-1", "--all"), "--resume: goes on with that replay's own filter; give no other"),
        (("events", "--resume", "rp-1", "--since", "2h"), "--resume: goes on with that replay's own filter"),
        (("events", "--destination", "d", "--delivered-until", "1h"), "--delivered-until: needs --delivered-since"),
        (("events", "--customer", "c", "--delivered-since", "1h"), "--delivered-since: needs --destination"),
        (("events", "--destination", "d", "--delivered-since", "2h", "--since", "3h"), "and neither --since nor"),
        (("events", "--destination", "d", "--delivered-since", "1h", "--delivered-until", "2h"),
         "--delivered-until: must be later than --delivered-since"),
        (("offsets", "--to", "monday"), "--to: must be a time such as 2026-11-24T09:00:00Z"),
        (("dlq", "--since", "tomorrow"), "must be a time such as"),
        (("dlq", "--rate", "0"), "--rate"),
        (("dlq", "--rate", "nan"), "--rate"),
        (("dlq", "--rate", "inf"), "--rate"),
    ],
)  # fmt: skip
def test_contradictory_options_are_refused(words: tuple[str, ...], error: str, shell: Shell) -> None:
    code, out, err = shell("replay", *words)
    assert (code, out) == (2, "")
    assert error in err


def test_a_replay_to_an_unknown_destination_is_refused(shell: Shell) -> None:
    code, _, err = shell("replay", "events", "--destination", "dst_nobody", "--since", "2h")
    assert code == 2
    assert "--destination: there is no destination dst_nobody; `destinations list` names them" in err


@pytest.mark.parametrize(
    ("words", "answers", "dry_runs"),
    [([], ["n"], [True]), ([], ["y"], [True, False]), (["--yes"], [], [False]), (["--dry-run"], [], [True])],
)
def test_a_person_is_asked_before_events_are_sent(
    words: list[str], answers: list[str], dry_runs: list[bool], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def replay(_settings: Any, _known: Any, _wanted: Any, limits: ReplayLimits, *_: Any, **__: Any) -> ReplayResult:
        seen.append(limits.is_dry_run)
        return ReplayResult("rp-1", Counter(dst_a=2), Counter())

    left = list(answers)
    monkeypatch.setattr("pushrail_stream.operations.replay.replay_events", replay)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.prompt", lambda *_, **__: left.pop())
    code, _, _ = shell("replay", "events", "--all", "--since", "2h", *words)
    assert (code, seen, left) == (int(answers == ["n"]), dry_runs, [])
