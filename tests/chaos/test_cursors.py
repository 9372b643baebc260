"""Cursors in a chaos run: destinations fall behind, and a commit does not cover the deliveries of its cursors."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from pushrail_stream.core.commit import encode_metadata
from pushrail_stream.core.cursor_state import CursorState, encode_cursors
from tests.chaos.commits import Commit, Commits, Position
from tests.chaos.drain import Lag
from tests.chaos.faults import plan_faults
from tests.chaos.lags import LAGGING, plan_lags
from tests.chaos.world import World

CURSOR = CursorState(destination_id="dst_0_0", since=20, next=30, to=40, oldest_ms=1, opened_ms=1, open=(12, 25))
METADATA = encode_metadata(50, [], cursors=encode_cursors([CURSOR]))
COMMITS = Commits([Commit(100.0, "chaos.events", 0, 50, METADATA)])


def covered(destination_id: str) -> list[int]:
    """The offsets that the commit covers."""
    return [at for at in range(60) if COMMITS.cover(Position("chaos.events", 0, at), 101.0, destination_id)]


def test_a_commit_covers_no_delivery_of_its_cursors() -> None:
    left = {12, 25, *range(30, 40)}
    assert covered("dst_0_0") == [at for at in range(50) if at not in left]
    assert covered("dst_1_0") == list(range(50))


def test_an_open_cursor_has_everything_from_its_next_offset_on() -> None:
    behind = replace(CURSOR, to=None, open=())
    metadata = encode_metadata(50, [55], cursors=encode_cursors([behind]))
    commits = Commits([Commit(100.0, "chaos.events", 0, 50, metadata)])
    assert [commits.cover(Position("chaos.events", 0, at), 101.0, "dst_0_0") for at in (29, 30, 55)] == [
        True, False, False,
    ]  # fmt: skip
    assert commits.cover(Position("chaos.events", 0, 55), 101.0, "dst_1_0"), "settled above the commit"


def test_cursors_count_from_their_commit_on() -> None:
    closed = Commit(110.0, "chaos.events", 0, 50, encode_metadata(50, []))
    commits = Commits([Commit(100.0, "chaos.events", 0, 50, METADATA), closed])
    assert [commits.cursors_at(at) for at in (99.0, 100.0, 109.0, 110.0)] == [0, 1, 1, 0]
    assert commits.with_cursors == 1


def test_a_partition_with_a_cursor_is_not_drained() -> None:
    assert Lag("chaos.events", 0, 50, 50).is_over
    assert not Lag("chaos.events", 0, 49, 50).is_over
    assert not Lag("chaos.events", 0, 50, 50, (CURSOR,)).is_over
    assert "dst_0_0" in str(Lag("chaos.events", 0, 50, 50, (CURSOR,)))


def test_the_busiest_destinations_fall_behind_in_every_way() -> None:
    lags = plan_lags(7, 130.0)
    for place in LAGGING:
        mine = [lag for lag in lags if lag.rules[0].match.bus == place.bus_arn]
        assert {lag.rules[0].label.partition(":")[0] for lag in mine} == {
            "lag-hang", "lag-down", "slow", "lag-throttle", "lag-entries", "lag-entry-throttle",
        }  # fmt: skip
        assert all(one.end < other.start for one, other in pairwise(mine))
        assert sum(lag.end - lag.start for lag in mine) > 130.0 / 2


def test_a_lag_goes_on_while_other_faults_change() -> None:
    world = World(7, 10_000, 200)
    phases = plan_faults(7, world, 60.0)
    for lag in plan_lags(7, 60.0):
        within = [phase for phase in phases if lag.start <= phase.at < lag.end]
        assert len(within) > 1
        assert all(set(lag.rules) <= set(phase.rules) for phase in within)


def test_the_busiest_customers_have_half_of_all_events() -> None:
    world = World(7, 10_000, 200)
    busiest = sum(customer in {place.customer for place in LAGGING} for customer in world.customer_of)
    assert 0.45 < busiest / 10_000 < 0.55
