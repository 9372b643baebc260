"""The states of cursors, and stories that reach them."""

from __future__ import annotations

from pushrail_stream.core import signals
from pushrail_stream.core.record import Partition
from tests.simulation.oracle.evidence import Disturbance, SignalSeen
from tests.simulation.oracle.told import EVENTS, ONE, WORKER, Told, delivered
from tests.simulation.states import STATES, count_states

HERE = Partition(EVENTS, 0)


def behind() -> Told:
    """A story in which a destination is behind from 1,004 s on."""
    told, _ = delivered()
    told.event(1_003.0, 7)
    told.commit(1_004.0, 2, cursors=[told.cursor(1, 1)])
    return told


def show(told: Told, signal: signals.Signal, at: float = 1_005.0) -> None:
    told.evidence.signals.append(SignalSeen(at, WORKER, signal))


def reached(told: Told) -> set[str]:
    return {name for name, times in count_states(told.story).items() if times and name.startswith("cursor")}


def test_a_commit_with_a_cursor_is_no_state_by_itself() -> None:
    assert reached(behind()) == set()


def test_the_life_of_a_cursor() -> None:
    told = behind()
    show(told, signals.CursorOpened(HERE, ONE, 1, 1))
    told.commit(1_005.0, 2, cursors=[told.cursor(1, 2, None, 1), told.cursor(2, 2, name="dst_two")])
    show(told, signals.CursorTrimmed(HERE, ONE, 1, 2, 1))
    show(told, signals.CursorClosed(HERE, ONE, "caught_up"))
    show(told, signals.CursorClosed(HERE, ONE, "recreated"))
    assert reached(told) == {
        "cursor opened", "cursor handed over", "cursor opened by two destinations of a partition",
        "cursor with open offsets below the place that it has read to", "cursor's events removed by retention",
        "cursor closed with its topic",
    }  # fmt: skip


def test_a_partition_with_a_cursor_moves() -> None:
    told = behind()
    told.assign(999.0, WORKER)
    told.assign(1_006.0, WORKER)
    show(told, signals.PartitionsRevoked((HERE,), lost=False, dropped=0))
    show(told, signals.PartitionsRevoked((HERE,), lost=True, dropped=0))
    assert reached(told) == {
        "cursor found by the next owner", "cursor open at a revoke", "cursor open when its partition is lost"
    }  # fmt: skip


def test_a_worker_with_a_cursor_is_killed() -> None:
    told = behind()
    told.assign(999.0, WORKER)
    told.evidence.disturbances.append(Disturbance(1_005.0, 1_005.0, "killed", WORKER))
    told.evidence.disturbances.append(Disturbance(1_006.0, 1_007.0, "kafka"))
    assert reached(told) == {"cursor open at a kill", "cursor open while Kafka is in trouble"}


def test_a_log_with_a_cursor_loses_records() -> None:
    told = behind()
    told.evidence.written[-1].gone_at = 1_005.0
    show(told, signals.PartitionRestarted(HERE, "went_back", 7))
    assert reached(told) == {"cursor open when its log loses records", "cursor in a log that was cut off"}


def test_a_tool_moves_a_commit_with_a_cursor() -> None:
    told = behind()
    told.commit(1_005.0, 1, host="", cursors=[told.cursor(1, 1)])
    assert reached(told) == {"cursor in a commit that a tool has moved"}
    told.commit(1_006.0, 1, host="")
    assert reached(told) == {"cursor in a commit that a tool has moved", "cursor cleared by a tool"}


def test_a_document_changes_while_its_destination_is_behind() -> None:
    told = behind()
    told.document(1_005.0, enabled=False)
    assert reached(told) == {"cursor whose document changes"}
    assert len([name for name in STATES if name.startswith("cursor")]) >= 15
