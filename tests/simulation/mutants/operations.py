"""Mutants of the operators' tasks."""

from __future__ import annotations

from typing import Final

from tests.simulation.mutants.mutant import mutant

MUTANTS: Final = (
    mutant(
        "replay that forgets its last chunk",
        "operations.replay:replay_dead_letters",
        "sender.flush()\n    return",
        "pass\n    return",
        needs=["replay_letters", "deny_by_policy"],
    ),
    mutant(
        "replay that leaves out the first dead letter",
        "operations.replay_selection:DeadLetterSelection._choose",
        "chosen.append(Chosen(destination_id, count + 1, mark))",
        "if self.chosen.total() > 1:\n            chosen.append(Chosen(destination_id, count + 1, mark))",
        needs=["replay_letters", "deny_by_policy"],
    ),
    mutant(
        "replay with the headers of the failure",
        "operations.replay_selection:copy_of",
        "attempts=0",
        "attempts=7",
        needs=["replay_letters", "deny_by_policy"],
    ),
    mutant(
        "check that counts waiting copies as missing",
        "operations.accounts:Accounts._judge",
        "best.waits or self._is_open(event)",
        "self._is_open(event)",
        needs=["check", "trouble_of_one_account"],
    ),
    mutant(
        "check that counts open records as missing",
        "operations.accounts:Accounts._judge",
        "best.waits or self._is_open(event)",
        "best.waits",
        needs=["check"],
    ),
    mutant(
        "check that ignores dead letters and their attempts",
        "operations.accounts:_best",
        "best = found.setdefault(trace.destination, _Best())",
        'if trace.status == "dead_lettered":\n'
        "            continue\n"
        "        best = found.setdefault(trace.destination, _Best())",
        needs=["check", "deny_by_policy"],
    ),
    mutant(
        "check that counts markers as events",
        "operations.accounts:Accounts.events",
        "return self._spill.count",
        "return self._spill.count + 1",
        needs=["check"],
    ),
)
