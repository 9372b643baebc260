"""Outages: a destination that is down gets one call at a time, and so does an endpoint."""

from __future__ import annotations

import math

from pushrail_stream.core.outage import DOWN_AFTER, PAUSES, SEVERAL, Endpoint, Outage

NEVER = -math.inf


def down(endpoint: Endpoint, now: float = 0.0) -> Outage:
    outage = Outage(endpoint)
    for _ in range(DOWN_AFTER):
        outage.called(now)
    for _ in range(DOWN_AFTER):
        outage.failed(now)
    return outage


def probe(outage: Outage, now: float) -> float:
    """A call that fails at once; the pause after it."""
    outage.called(now)
    outage.failed(now)
    return round(outage.next_call_at - now, 6)


def test_eight_failures_in_a_row_are_an_outage() -> None:
    outage = Outage(Endpoint())
    for _ in range(DOWN_AFTER - 1):
        outage.failed(0.0)
    assert (outage.is_down, outage.next_call_at, outage.failures) == (False, NEVER, 7)
    outage.answered()
    for _ in range(DOWN_AFTER - 1):
        outage.failed(0.0)
    assert not outage.is_down, "one was answered"
    outage.failed(5.0)
    assert (outage.is_down, outage.next_call_at) == (True, 5.2)


def test_pauses_grow_from_a_fifth_of_a_second_to_two() -> None:
    outage, now, pauses = down(Endpoint()), 0.2, []
    for _ in range(6):
        pauses.append(probe(outage, now))
        now = outage.next_call_at
    assert pauses == [0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


def test_calls_from_before_the_outage_lengthen_no_pause() -> None:
    outage = down(Endpoint())
    for _ in range(50):
        outage.failed(3.0)
    assert (outage.failures, outage.next_call_at) == (DOWN_AFTER, 0.2)
    assert probe(outage, 4.0) == 0.4


def test_it_is_down_with_its_endpoint() -> None:
    endpoint = Endpoint()
    several = [down(endpoint) for _ in range(SEVERAL)]
    one_failure, none = Outage(endpoint), Outage(endpoint)
    one_failure.failed(1.0)
    assert all(outage.is_down and outage.is_endpoint_down for outage in (*several, one_failure, none))
    several[0].answered()
    assert [outage.is_down for outage in (*several, one_failure, none)] == [False, True, True, False, False]
    assert not any(outage.is_endpoint_down for outage in several)


def test_destinations_without_a_failure_make_a_first_call_one_after_the_other() -> None:
    endpoint = Endpoint()
    several = [down(endpoint, 10.0) for _ in range(SEVERAL)]
    several[0].called(10.0)
    fresh = [Outage(endpoint) for _ in range(3)]
    assert [round(outage.next_call_at, 6) for outage in fresh] == [10.0, 10.02, 10.04]
    assert fresh[1].next_call_at == 10.02, "it keeps its place"
    fresh[0].called(10.0)
    assert endpoint.probe_at == 10.2, "a first call is no probe for all"
    fresh[0].failed(10.01)
    assert round(fresh[0].next_call_at, 6) == 10.21, "it has failed, and waits with the others"
    fresh[1].forget()
    assert round(fresh[1].next_call_at, 6) == 10.06, "it begins anew behind the others"
    fresh[2].called(10.04)
    fresh[2].answered()
    assert [outage.next_call_at for outage in fresh[1:]] == [NEVER, NEVER]
    assert down(endpoint, 60.0).next_call_at == 60.2


def test_a_destination_without_a_failure_probes_for_all_when_its_first_call_would_be_later() -> None:
    endpoint = Endpoint()
    for _ in range(SEVERAL):
        down(endpoint)
    many = [Outage(endpoint) for _ in range(50)]
    endpoint.called(many[0], 0.0)
    assert [round(outage.next_call_at, 6) for outage in many][8:12] == [0.16, 0.18, 0.2, 0.2]
    many[-1].called(0.2)
    assert round(endpoint.probe_at, 6) == 0.6, "it was a probe for all"
    assert many[-2].next_call_at == endpoint.probe_at


def test_a_destination_that_was_answered_makes_its_calls_while_its_endpoint_is_down() -> None:
    endpoint = Endpoint()
    well = Outage(endpoint)
    well.called(0.0)
    well.answered()
    for _ in range(SEVERAL):
        down(endpoint)
    assert (well.is_endpoint_down, well.is_down, well.next_call_at) == (True, False, NEVER)
    well.called(0.1)
    assert endpoint.probe_at == NEVER, "it is no probe"
    well.failed(0.1)
    assert (well.is_down, round(well.next_call_at, 6)) == (True, 0.3)


def test_an_answer_ends_it() -> None:
    outage = down(Endpoint())
    outage.answered()
    assert (outage.is_down, outage.next_call_at, outage.failures) == (False, NEVER, 0)
    outage.failed(1.0)
    assert not outage.is_down


def test_an_answer_without_an_outage_changes_nothing() -> None:
    endpoint = Endpoint()
    outage = Outage(endpoint)
    outage.answered()
    assert (outage.failures, endpoint.is_down) == (0, False)


def test_several_destinations_make_an_endpoint_down() -> None:
    endpoint = Endpoint()
    for number in range(SEVERAL):
        assert not endpoint.is_down, number
        down(endpoint)
    assert endpoint.is_down
    assert not Endpoint().is_down


def test_an_answer_between_the_outages_keeps_the_endpoint_up() -> None:
    endpoint = Endpoint()
    for _ in range(SEVERAL - 1):
        down(endpoint)
    Outage(endpoint).answered()
    down(endpoint)
    assert not endpoint.is_down


def test_a_destination_that_fails_again_counts_again() -> None:
    endpoint = Endpoint()
    outages = [down(endpoint) for _ in range(SEVERAL)]
    Outage(endpoint).answered()
    assert (endpoint.is_down, outages[0].is_down) == (False, True)
    for outage in outages:
        probe(outage, 9.0)
    assert endpoint.is_down


def test_one_probe_serves_all_that_have_failed() -> None:
    endpoint = Endpoint()
    one, two, *_ = [down(endpoint) for _ in range(SEVERAL)]
    failed_once = Outage(endpoint)
    failed_once.failed(0.0)
    one.called(1.0)
    assert [outage.next_call_at for outage in (one, two, failed_once)] == [1.2] * 3
    one.failed(1.1)
    assert (one.next_call_at, two.next_call_at) == (1.5, 1.2), "another one makes the next"
    two.called(1.2)
    assert (one.next_call_at, failed_once.next_call_at) == (1.6, 1.6)


def test_probes_of_an_endpoint_are_spaced_like_those_of_a_destination() -> None:
    endpoint = Endpoint()
    outages = [down(endpoint) for _ in range(SEVERAL)]
    now, gaps = 10.0, []
    for number in range(6):
        outages[number % SEVERAL].called(now)
        gaps.append(round(endpoint.probe_at - now, 6))
        now = endpoint.probe_at
    assert gaps == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert gaps[-1] == PAUSES.cap_secs


def test_the_first_answer_ends_the_endpoints_outage() -> None:
    endpoint = Endpoint()
    one, two, *_ = [down(endpoint) for _ in range(SEVERAL)]
    failed_once = Outage(endpoint)
    failed_once.failed(0.0)
    one.called(1.0)
    one.answered()
    assert not endpoint.is_down
    assert [outage.is_down for outage in (one, two, failed_once)] == [False, True, False]
    assert two.next_call_at == 0.2, "it is due, and makes one call"


def test_a_call_from_before_the_endpoint_was_down_is_no_probe() -> None:
    endpoint = Endpoint()
    late = Outage(endpoint)
    late.called(0.0)
    late.failed(0.0)
    for _ in range(SEVERAL):
        down(endpoint)
    late.failed(1.0)
    assert late.failures == 1
    assert probe(late, 2.0) == 0.2


def test_a_forgotten_destination_counts_no_longer() -> None:
    endpoint = Endpoint()
    outages = [down(endpoint) for _ in range(SEVERAL)]
    outages[0].forget()
    assert (endpoint.is_down, outages[0].is_down) == (False, False)


def test_a_destination_may_move_to_another_endpoint() -> None:
    here, there = Endpoint(), Endpoint()
    outages = [down(here) for _ in range(SEVERAL)]
    outages[0].move(there)
    assert (here.is_down, outages[0].failures) == (False, 0)
    down(there), down(there)
    for _ in range(DOWN_AFTER):
        outages[0].failed(0.0)
    assert (here.is_down, there.is_down) == (False, True)


def test_thousands_of_destinations_do_not_wake_at_once() -> None:
    endpoint = Endpoint()
    few = [down(endpoint) for _ in range(100)]
    endpoint.called(few[0], 9.0)
    assert {outage.next_call_at for outage in few} == {endpoint.probe_at}
    many = [*few, *(down(endpoint) for _ in range(4_900))]
    assert endpoint.failing == 5_000
    offsets = sorted(outage.next_call_at - endpoint.probe_at for outage in many)
    assert (offsets[0] >= 0, offsets[-1] < 4_900 * 0.0008) == (True, True)
    parts = [sum(part <= offset * 10 < part + 1 for offset in offsets) for part in range(39)]
    assert min(parts) > 120, "125 in each tenth of a second"
    for outage in many:
        outage.forget()
    assert endpoint.failing == 0


def test_many_destinations_with_few_calls_show_that_their_endpoint_is_down() -> None:
    """Each has too few calls to be down by itself, as most customers have few events."""
    endpoint = Endpoint()
    outages = [Outage(endpoint) for _ in range(12)]
    for outage in [*outages, *outages[:11]]:
        outage.failed(0.0)
    assert not endpoint.is_down, "23 failures"
    outages[11].failed(0.0)
    assert endpoint.is_down
    assert all(outage.is_down and outage.is_endpoint_down for outage in outages)
    outages[3].answered()
    assert not endpoint.is_down
    assert not any(outage.is_down for outage in outages)


def test_few_destinations_must_be_down_before_their_endpoint_is() -> None:
    endpoint = Endpoint()
    outages = [Outage(endpoint) for _ in range(7)]
    for _ in range(DOWN_AFTER - 1):
        for outage in outages:
            outage.failed(0.0)
    assert not endpoint.is_down
