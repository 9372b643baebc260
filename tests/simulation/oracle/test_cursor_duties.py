"""Events below a commit that cursors have."""

from __future__ import annotations

from tests.simulation.oracle.commits import find_dropped, find_unsettled
from tests.simulation.oracle.coverage import Coverage
from tests.simulation.oracle.evidence import Disturbance, DocumentEdit
from tests.simulation.oracle.nothing_lost import find_lost
from tests.simulation.oracle.repeats import find_repeats
from tests.simulation.oracle.settled import find_unfinished
from tests.simulation.oracle.told import ONE, WORKER, Told, delivered


def unsettled(told: Told) -> int:
    return len(list(find_unsettled(told.story)))


def dropped(told: Told) -> list[str]:
    return [violation.sentence for violation in find_dropped(told.story)]


def lost(told: Told) -> int:
    return len(list(find_lost(told.story)))


def test_a_cursor_may_have_an_event_below_the_commit() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7)
    told.event(1_003.0, 8)
    told.commit(1_004.0, 3, cursors=[told.cursor(1, 2, None, 1)])
    assert unsettled(told) == 0
    told.evidence.commits.pop()
    told.commit(1_004.0, 3, cursors=[told.cursor(1, 3, None, 1)])
    assert unsettled(told) == 1, "the cursor has read past the second one"


def test_a_cursor_of_another_destination_has_nothing_for_this_one() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7)
    told.commit(1_004.0, 2, cursors=[told.cursor(1, 1, name="dst_two")])
    assert unsettled(told) == 1


def test_a_cursor_keeps_an_event_until_it_is_settled() -> None:
    told, _ = delivered()
    event = told.event(1_003.0, 7)
    told.commit(1_004.0, 2, cursors=[told.cursor(1, 1)])
    told.commit(1_005.0, 2, cursors=[told.cursor(1, 2, None, 1)])
    told.commit(1_006.0, 2, cursors=[told.cursor(1, 2)])
    assert dropped(told) == [
        (
            "worker-1 committed pushrail.events/0 at 2 at 1006.000 without a cursor for dst_one that has the record at "
            "pushrail.events/0/1 of topic id-of-events, which was not settled"
        )
    ]
    told.call(1_005.5, event)
    assert dropped(told) == []


def test_kafka_may_lose_an_event_that_a_cursor_has() -> None:
    told, _ = delivered()
    event = told.event(1_003.0, 7)
    told.commit(1_004.0, 2, cursors=[told.cursor(1, 1)])
    told.commit(1_006.0, 2)
    assert len(dropped(told)) == 1
    event.gone_at = 1_005.0
    assert dropped(told) == []


def test_a_tool_that_clears_the_metadata_gives_the_events_of_cursors_up() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7)
    told.commit(1_004.0, 2, cursors=[told.cursor(1, 1)])
    told.commit(1_005.0, 2)
    assert (len(dropped(told)), lost(told)) == (1, 1)
    told.evidence.commits.pop()
    told.commit(1_005.0, 2, host="")
    told.commit(1_006.0, 2)
    assert (dropped(told), lost(told)) == ([], 0)


def test_a_later_tool_may_pass_an_event_of_a_cleared_cursor() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7)
    told.commit(1_004.0, 2, cursors=[told.cursor(1, 1)])
    told.commit(1_005.0, 1, host="")
    told.commit(1_006.0, 2, host="")
    told.commit(1_007.0, 2)
    assert lost(told) == 0
    told.commit(1_005.5, 2)
    told.evidence.commits.sort(key=lambda commit: commit.at)
    assert lost(told) == 1, "workers had read it again"


def test_a_tool_may_give_up_an_event_whose_destination_is_uncertain() -> None:
    told, _ = delivered()
    told.evidence.edits.append(DocumentEdit(1_500.0, ONE, b"{"))
    told.event(3_000.0, 7)
    told.commit(3_001.0, 2, cursors=[told.cursor(1, 1)])
    told.commit(3_002.0, 2)
    assert lost(told) == 1
    told.evidence.commits.pop()
    told.commit(3_002.0, 2, host="")
    assert lost(told) == 0


def test_a_tool_that_keeps_the_metadata_gives_nothing_up() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7)
    told.commit(1_004.0, 2, cursors=[told.cursor(1, 1)])
    told.commit(1_005.0, 2, host="", cursors=[told.cursor(1, 1)])
    told.commit(1_006.0, 2)
    assert (len(dropped(told)), lost(told)) == (1, 1)


def test_an_event_on_a_cursor_is_read_again_after_a_kill() -> None:
    told, _ = delivered()
    event = told.event(1_003.0, 7)
    told.call(1_005.0, event)
    told.commit(1_004.0, 2, cursors=[told.cursor(1, 1)])
    told.assign(1_010.0)
    told.call(1_011.0, event, host="worker-2")
    assert len(list(find_repeats(told.story))) == 1, "nothing was disturbed"
    told.evidence.disturbances.append(Disturbance(1_006.0, 1_006.0, "killed", WORKER))
    assert list(find_repeats(told.story)) == []
    coverage = Coverage(told.evidence)
    assert coverage.covers(event, 1_005.0)
    assert not coverage.covers(event, 1_005.0, [ONE])


def test_a_late_event_may_wait_on_a_cursor_when_the_story_ends() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7)
    told.commit(1_004.0, 2, cursors=[told.cursor(1, 1)])
    assert lost(told) == 1
    told.evidence.ended_at = 1_010.0
    assert lost(told) == 0


def test_no_cursor_is_left_when_everything_must_have_settled() -> None:
    told, _ = delivered()
    told.evidence.healed_at = 1_100.0
    log = told.evidence.commits[0].partition, "id-of-events"
    told.evidence.log_ends[log] = 1
    told.commit(1_004.0, 1, cursors=[told.cursor(1, 1)])
    assert [one.sentence for one in find_unfinished(told.story)] == [
        "dst_one still has a cursor on pushrail.events/0 in the commit at 1004.000"
    ]
    told.commit(1_005.0, 1)
    assert list(find_unfinished(told.story)) == []


def test_a_cursor_may_wait_for_records_that_kafka_has_lost() -> None:
    told, _ = delivered()
    told.evidence.healed_at = 1_000.0
    told.evidence.log_ends[told.evidence.commits[0].partition, "id-of-events"] = 1
    told.commit(1_004.0, 3, cursors=[told.cursor(1, 1)])
    assert list(find_unfinished(told.story)) == []
    told.commit(1_005.0, 3, cursors=[told.cursor(0, 1, None, 0)])
    assert len(list(find_unfinished(told.story))) == 1, "it has one that is there"
