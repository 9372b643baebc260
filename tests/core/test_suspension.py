"""Suspension: it begins after five blocked attempts in a row and ends with a delivery."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.pacing import PROBES
from pushrail_stream.core.suspension import SUSPEND_AFTER, Suspension


def suspended(now: float = 100.0) -> Suspension:
    suspension = Suspension()
    for _ in range(SUSPEND_AFTER):
        suspension.count_blocked(now)
    return suspension


def test_five_blocked_attempts_in_a_row_suspend() -> None:
    suspension = Suspension()
    assert [suspension.count_blocked(float(n)) for n in range(5)] == [False, False, False, False, True]
    assert (suspension.since, suspension.probe_at) == (4.0, 34.0)


def test_a_delivery_restarts_the_count() -> None:
    suspension = Suspension()
    for _ in range(4):
        suspension.count_blocked(0.0)
    assert not suspension.is_clear
    assert suspension.end(0.0) is None
    assert suspension.is_clear
    assert not any(suspension.count_blocked(0.0) for _ in range(4))


def test_probe_pauses_grow_to_ten_minutes() -> None:
    suspension, pauses = suspended(0.0), []
    for _ in range(7):
        before = suspension.probe_at
        assert suspension.count_blocked(before)
        pauses.append(suspension.probe_at - before)
    assert pauses == [60, 120, 240, 480, 600, 600, 600]


def test_an_earlier_call_is_no_probe() -> None:
    suspension = suspended(100.0)
    assert not suspension.count_blocked(105.0)
    assert suspension.probe_at == 130.0


def test_the_first_success_ends_it() -> None:
    suspension = suspended(100.0)
    suspension.count_blocked(130.0)
    assert suspension.end(195.0) == 95.0
    assert (suspension.since, suspension.is_clear) == (None, True)
    again = [suspension.count_blocked(200.0) for _ in range(5)]
    assert again[-1]
    assert suspension.probe_at == 230.0, "and the probes begin anew"


def test_a_changed_document_is_probed_now() -> None:
    suspension = suspended(100.0)
    suspension.probe_now()
    assert suspension.probe_at <= 100.0
    assert suspension.count_blocked(101.0), "that was a probe"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1000)), max_size=60))
def test_five_blocked_in_a_row_suspend(story: list[tuple[bool, float]]) -> None:
    suspension, now, in_a_row = Suspension(), 0.0, 0
    for is_blocked, passed in story:
        now += passed
        if is_blocked:
            suspension.count_blocked(now)
            in_a_row += 1
        else:
            suspension.end(now)
            in_a_row = 0
        assert (suspension.since is not None) == (in_a_row >= SUSPEND_AFTER)
        assert suspension.is_clear == (in_a_row == 0)
        assert suspension.probe_at <= now + PROBES.cap_secs


def test_a_requested_probe_comes_soon() -> None:
    suspension = suspended(100.0)
    suspension.request_probe()
    assert suspension.probe_at == 105.0
    suspension.request_probe()
    assert suspension.probe_at == 105.0, "asking twice does not hurry it"
    assert suspension.count_blocked(106.0)
    assert suspension.probe_at == 166.0
    suspension.request_probe()
    assert suspension.probe_at == 111.0
    suspension.probe_now()
    suspension.request_probe()
    assert suspension.probe_at == 0.0
