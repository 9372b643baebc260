"""Mutants of cursors: the places of destinations that are behind."""

from __future__ import annotations

from typing import Final

from tests.simulation.mutants.mutant import Change, Mutant, mutant

_BEHIND: Final = (
    "settings?delivery.max_in_flight=1",
    "fall_behind?at=10&destination=dst_0_0&how=far&count=500&burst_secs=5&secs=40&meanwhile=",
    "fall_behind?at=30&destination=dst_0_0&how=call:ServiceUnavailable&count=400&burst_secs=5&secs=30&meanwhile=",
)
"""Destinations fall behind, and nothing else happens."""
_STEADY: Final = (
    "settings?delivery.max_in_flight=1",
    "fall_behind?at=10&destination=dst_0_0&how=call:ServiceUnavailable&count=1200&burst_secs=60&secs=20&meanwhile=",
)
"""A destination catches up while its events go on."""
_KILLS: Final = (*_BEHIND, "kill_worker?at=25", "kill_worker?at=40", "kill_worker?at=50")
_MOVES: Final = (*_BEHIND, "roll_fleet?at=20&grace_secs=30&pause=3", "roll_fleet?at=45&grace_secs=30&pause=3")
_SHORT: Final = (
    "settings?delivery.max_in_flight=1&delivery.hold_secs=30",
    "fall_behind?at=40&destination=dst_0_0&how=far&count=300&burst_secs=3&secs=10&meanwhile=",
    'trouble_of_one_account?at=42&account="111000000001"&kind=hang&share=1&secs=40',
    'produce_events?at=42&count=20&secs=10&hot="customer-1"',
)
"""A destination soon catches up, while another one holds back the commit."""
_NOBODY: Final = (
    "settings?delivery.max_in_flight=1&delivery.max_age_secs=20",
    "fall_behind?at=10&destination=dst_0_0&how=far&count=500&burst_secs=3&secs=40&meanwhile=",
    *(f"kill_worker?at=25&worker={worker}&back_secs=40" for worker in range(3)),
)
"""While a destination is behind, all workers die. They come back after the greatest age."""
_METADATA: Final = "lower_metadata_limit?at=1&limit=165"
"""Commits have no room for any cursor."""
_SNAPSHOTS: Final = (*_KILLS, _METADATA)
_HELD: Final = (
    "settings?delivery.max_in_flight=1&limits.max_buffered_events=40&flood_guard.enabled=false",
    "fall_behind?at=5&destination=dst_0_0&how=call:ServiceUnavailable&count=1500&burst_secs=10&secs=30&meanwhile=",
    "withdraw_right?at=20&topic=pushrail.dlq&operation=Write&secs=60",
    "produce_poison?at=20&count=240",
)
"""A destination catches up, while dead letters that cannot be written hold the live reader back."""
_ELECTIONS: Final = (
    *_HELD,
    "produce_events?at=33&count=600&secs=40&transactions=false",
    *(f"elect_unclean?at={at}&topic=pushrail.events&lost=1" for at in range(36, 52)),
)
"""The log loses its end again and again, above the place of the live reader."""
_CUTS: Final = (
    *_HELD,
    *(f"elect_unclean?at={at}&topic=pushrail.events&lost=300" for at in (36, 37)),
    "produce_events?at=38&count=600&secs=40&transactions=false",
)
"""The log is cut off below the place of the live reader, which does not notice it for long."""
_TOOLS: Final = (*_BEHIND, "mirror_offsets?at=20", "mirror_offsets?at=45")

MUTANTS: Final = (
    mutant(
        "commit without cursors",
        "core.offsets:OffsetTracker.committable",
        "self.epoch, cursors",
        "self.epoch, []",
        needs=_BEHIND,
    ),
    mutant(
        "forget the open offsets of a cursor",
        "core.cursor:Cursor.state",
        "open=tuple(sorted(self._open.keys() - read_on)),",
        "open=(),",
        needs=_BEHIND,
    ),
    mutant(
        "begin a cursor one offset late",
        "pipeline.backlogs:Backlogs._cursor",
        "next=tracker.read_to,",
        "next=tracker.read_to + 1,",
        needs=_BEHIND,
    ),
    mutant(
        "end a cursor one offset before the live reader",
        "core.cursor:Cursor.hand_over",
        "self.position >= live_next:",
        "self.position >= live_next - 1:",
        needs=_STEADY,
    ),
    mutant(
        "let the live reader pass over the first offset after a cursor",
        "core.cursor:Cursor._has_range",
        "offset >= self.to)",
        "offset > self.to)",
        needs=_BEHIND,
    ),
    Mutant(
        "adopt a delivery without keeping its offset",
        (
            Change("core.cursor:Cursor.adopt", "self._open[pending.offset] = pending.at_ms", "pass"),
            Change("core.cursor:Cursor.closed", "del self._open[pending.offset]", "self._open.pop(pending.offset, 0)"),
        ),
        needs=_KILLS,
    ),
    mutant(
        "drop a delivery that was taken out of memory",
        "core.cursor:Cursor.put_back",
        "self.position = min(self.position, pending.offset)",
        "self._open.pop(pending.offset)",
        needs=_BEHIND,
    ),
    mutant(
        "read past the record at which a lane was full",
        "pipeline.catch_up:CatchUp._deliver",
        "cursor.pass_to(record.offset, record.timestamp_ms)",
        "cursor.pass_to(record.offset + 1, record.timestamp_ms)",
        needs=_BEHIND,
    ),
    mutant(
        "open a cursor again without what it has not read",
        "core.cursor:Cursor.reopen",
        "self.live.append((self.to, live_next))",
        "self.next = self.position = live_next",
        needs=_TOOLS,
    ),
    mutant(
        "the next owner forgets what a cursor had read",
        "core.cursor:Cursor.__init__",
        "dict.fromkeys(state.open, state.oldest_ms)",
        "dict.fromkeys((), state.oldest_ms)",
        needs=_KILLS,
    ),
    mutant(
        "the live reader delivers what a cursor has",
        "pipeline.event_consumer:_without_cursors",
        "or not cursor.owns(offset)",
        "or not cursor.owns(offset - 50)",
        needs=_BEHIND,
    ),
    mutant(
        "lose the newest cursor of a snapshot",
        "core.snapshot:snapshot_value",
        "commit.cursors}",
        "commit.cursors.rpartition('/')[0]}",
        needs=_SNAPSHOTS,
    ),
    mutant(
        "forget the cursors of a commit that a tool has moved",
        "core.commit:resumed_cursors",
        "return [state for old in states if (state := _translated(old, committed.offset, offset_at)) is not None]",
        "return []",
        needs=_TOOLS,
    ),
    mutant(
        "name the newest event of a cursor as its oldest",
        "core.cursor:Cursor.state",
        "oldest_ms=self.oldest_ms,",
        "oldest_ms=self.oldest_ms + 120_000,",
        needs=_TOOLS,
    ),
    mutant(
        "forget the newest records of a cursor with the lost end of its log",
        "core.cursor:Cursor.below",
        "if offset < end}",
        "if offset < end - 30}",
        needs=[
            *_BEHIND,
            "elect_unclean?at=13&topic=pushrail.events&lost=5",
            "elect_unclean?at=33&topic=pushrail.events&lost=5",
        ],
    ),
    mutant(
        "lose a backlog with the end of its log without a word",
        "core.cursor:Cursor.lost_from",
        "if known == 0 and self.unread(live_next, first) == 0:",
        "if True:",
        needs=[
            *_BEHIND,
            "elect_unclean?at=20&topic=pushrail.events&lost=30",
            "elect_unclean?at=42&topic=pushrail.events&lost=30",
        ],
    ),
    mutant(
        "commit the deliveries of a cursor that were dropped with its partition",
        "core.cursor:Cursor.state",
        "first = max(self.since, self._highest + 1)",
        "self._open = {one: at for one, at in self._open.items() if one not in self._held}\n"
        "    first = max(self.since, self._highest + 1)",
        needs=_MOVES,
    ),
    mutant(
        "the next owner begins where the cursor's first one did",
        "core.cursor:Cursor.__init__",
        "self.position = self.lowest",
        "self.position = self.next = state.since",
        needs=_KILLS,
    ),
    mutant(
        "commit a cursor as if it had read nothing",
        "core.cursor:Cursor.state",
        "next=min((*read_on, self.next)),",
        "next=self.since,",
        needs=[
            "settings?delivery.max_in_flight=1&delivery.max_entries=5",
            "fall_behind?at=10&destination=dst_0_0&how=far&count=300&burst_secs=3&secs=100&meanwhile=",
        ],
    ),
    mutant(
        "end a cursor before the commit has reached its end",
        "core.cursor:Cursor.is_done",
        " and self.to <= committed",
        "",
        needs=_SHORT,
    ),
    mutant(
        "commit before Kafka has the snapshot",
        "kafka.snapshots:Snapshots.ready",
        "self._begin(partition, commit)\n        elif",
        "self._begin(partition, commit)\n            made[partition] = commit\n        elif",
        needs=_SNAPSHOTS,
    ),
    mutant(
        "name the place of an earlier snapshot",
        "kafka.snapshots:Snapshots.last",
        "written and written.commit.says_as(commit)",
        "written",
        needs=[*_MOVES, _METADATA],
    ),
    mutant(
        "look for a copied snapshot only at the place that its commit names",
        "kafka.snapshots:restored",
        "if found is None:",
        "if True:",
        needs=[*_TOOLS, _METADATA],
    ),
    mutant(
        "the reader of cursors passes over records that its client threw away at an election",
        "kafka.stretches:_Stretch.add",
        "record.offset > self.end",
        "False",
        needs=_ELECTIONS,
    ),
    mutant(
        "a cursor takes the records of a new leader for those that the live reader has read",
        "core.offsets:OffsetTracker.is_of_another_log",
        "record.offset < self.untouched_from",
        "False",
        needs=_CUTS,
    ),
    mutant(
        "the next owner counts time in which nobody had a cursor's partition",
        "pipeline.cursor_care:CursorCare._is_expired",
        "now_ms if cursor.taken_ms is None else max(due_ms, cursor.opened_ms, cursor.taken_ms)",
        "max(due_ms, cursor.opened_ms)",
        needs=_NOBODY,
    ),
)
