"""Retry: temporary failures are repeated, permanent ones are not, and our own faults cost no delivery."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.destination import RetryBounds
from pushrail_stream.core.outcome import SIGN_INS_QUEUED, Blocked, Delivered, Outcome, Rejected, Retryable, Throttled
from pushrail_stream.core.retry import (
    FAULTS,
    DeadLetter,
    DeadReason,
    Decision,
    RetryInMemory,
    RetryOnTopic,
    RetryPolicy,
    RetryReason,
    RetryState,
    Settled,
    decide,
    fault_of,
    move_on,
)
from tests.support.policy import retry_policy

POLICY = retry_policy()
DAY = 86_400.0
policies = st.builds(retry_policy, max_age_secs=st.floats(0, 1e9))


def after(
    outcome: Outcome, *, age_secs: float = 0.0, delay_secs: float = 0.1, left_secs: float = 10.0, tier: int = 0,
    policy: RetryPolicy = POLICY,
) -> Decision:  # fmt: skip
    return decide(outcome, RetryState(age_secs, left_secs, tier), delay_secs, policy)


def test_a_queued_sign_in_stays_on_its_tier() -> None:
    queued = Retryable(SIGN_INS_QUEUED, "more than 100 a second are due")
    assert after(queued) == RetryInMemory(0.1, "held")
    tiers = POLICY.tiers
    for tier, stays in ((0, tiers[0]), (1, tiers[0]), (2, tiers[1]), (3, tiers[2])):
        assert after(queued, tier=tier, left_secs=0.0) == RetryOnTopic(stays, "held")


def test_a_queued_sign_in_expires_no_delivery() -> None:
    """The limit of sign-ins is ours. While our own credentials fail, each destination signs in again and again."""
    queued = Retryable(SIGN_INS_QUEUED, "more than 100 a second are due")
    assert after(queued, age_secs=DAY) == RetryInMemory(0.1, "held")
    assert after(queued, age_secs=DAY, left_secs=0.0) == RetryOnTopic(POLICY.tiers[0], "held")


@pytest.mark.parametrize(
    ("outcome", "young", "old"),
    [
        (Delivered("event-1"), Settled(), Settled()),
        (Retryable("500", "oh"), RetryInMemory(0.1, "retryable"), DeadLetter("expired", "500", "oh")),
        (
            Retryable("SignatureDoesNotMatch", "we", is_our_fault=True),
            RetryInMemory(0.1, "retryable"),
            RetryInMemory(0.1, "retryable"),
        ),
        (Throttled("SlowDown", "hey"), RetryInMemory(0.1, "throttled"), DeadLetter("expired", "SlowDown", "hey")),
        (
            Rejected("MalformedDetail", "no"),
            DeadLetter("rejected", "MalformedDetail", "no"),
            DeadLetter("rejected", "MalformedDetail", "no"),
        ),
        (
            Blocked("AccessDenied", "never"),
            DeadLetter("blocked", "AccessDenied", "never"),
            DeadLetter("blocked", "AccessDenied", "never"),
        ),
    ],
)
def test_every_outcome_has_its_consequence(outcome: Outcome, young: Decision, old: Decision) -> None:
    for age, expected in ((0.0, young), (DAY - 0.001, young), (DAY, old), (10 * DAY, old)):
        decided = after(outcome, age_secs=age)
        assert decided == expected
        assert type(decided) is type(expected)


def test_no_outcome_is_missing_above() -> None:
    assert set(get_args(Outcome)) == {Delivered, Retryable, Throttled, Rejected, Blocked}


@given(
    age_secs=st.floats(0, 1e12),
    delay_secs=st.floats(0, 100),
    left_secs=st.floats(-10, 10) | st.just(math.inf),
    tier=st.integers(0, 9),
)
def test_our_own_fault_is_never_a_dead_letter(**circumstances: Any) -> None:
    decided = after(Retryable("InvalidClientTokenId", "our key", is_our_fault=True), **circumstances)
    assert isinstance(decided, RetryInMemory | RetryOnTopic)


FAILED = Retryable("500", "oh")
SLOW = Throttled("SlowDown", "hey")


def test_out_of_time_means_the_first_tier() -> None:
    assert after(FAILED, delay_secs=2.0, left_secs=2.1) == RetryInMemory(2.0, "retryable")
    assert after(FAILED, delay_secs=2.0, left_secs=2.0) == RetryOnTopic(POLICY.tiers[0], "retryable")
    assert after(SLOW, delay_secs=2.0, left_secs=2.0) == RetryOnTopic(POLICY.tiers[0], "throttled")


@pytest.mark.parametrize("reason", ["held", "throttled"])
def test_a_delivery_that_waits_for_its_turn_climbs_no_tier(reason: RetryReason) -> None:
    state = RetryState(0, 0, 2, makes_progress=True)
    assert move_on(state, POLICY, reason) == RetryOnTopic(POLICY.tiers[0], reason)
    assert move_on(state, POLICY, "retryable") == RetryOnTopic(POLICY.tiers[2], "retryable")


def test_a_delivery_climbs_tier_by_tier() -> None:
    climbed = [POLICY.tiers[index] for index in (0, 1, 2, 2, 2)]
    assert [after(FAILED, left_secs=0, tier=tier) for tier in range(5)] == [
        RetryOnTopic(tier, "retryable") for tier in climbed
    ]
    assert [after(SLOW, left_secs=0, tier=tier) for tier in range(5)] == [
        RetryOnTopic(tier, "throttled") for tier in climbed
    ]
    assert [move_on(RetryState(0, 0, tier), POLICY) for tier in range(5)] == [
        RetryOnTopic(tier, "held") for tier in climbed
    ]


@pytest.mark.parametrize("outcome", [FAILED, SLOW])
def test_a_delivery_without_a_hold_stays_in_memory(outcome: Outcome) -> None:
    assert isinstance(after(outcome, delay_secs=60.0, left_secs=math.inf), RetryInMemory)
    assert isinstance(after(outcome, delay_secs=60.0, left_secs=math.inf, age_secs=DAY), DeadLetter)


def test_a_policy_without_a_tier_is_refused() -> None:
    with pytest.raises(ValueError, match="a retry policy has at least one tier"):
        retry_policy(tiers=())


@given(st.floats(0, 1e9), policies)
def test_a_delivery_expires_at_the_policys_age(age_secs: float, policy: RetryPolicy) -> None:
    decided = after(Retryable("500", ""), age_secs=age_secs, policy=policy)
    assert isinstance(decided, DeadLetter) == (age_secs >= policy.bounds.max_age_secs)


def test_a_delivery_ends_with_its_last_attempt() -> None:
    state = RetryState(0.0, 10.0, 0, attempts=3)
    for own, settings, ends in ((3, 5, True), (5, 3, True), (4, 4, False), (math.inf, math.inf, False)):
        bounded, policy = state._replace(bounds=RetryBounds(max_attempts=own)), retry_policy(max_attempts=settings)
        for failure in (FAILED, SLOW):
            assert isinstance(decide(failure, bounded, 0.1, policy), DeadLetter) == ends
        ours = Retryable("InvalidClientTokenId", "our key", is_our_fault=True)
        assert isinstance(decide(ours, bounded, 0.1, policy), RetryInMemory)


@given(own=st.floats(1, 1e9), settings=st.floats(1, 1e9), age_secs=st.floats(0, 1e9))
def test_the_lower_of_two_ages_counts(own: float, settings: float, age_secs: float) -> None:
    state = RetryState(age_secs, 10.0, 0, bounds=RetryBounds(max_age_secs=own))
    decided = decide(FAILED, state, 0.1, retry_policy(max_age_secs=settings))
    assert isinstance(decided, DeadLetter) == (age_secs >= min(own, settings))


def test_a_delivery_comes_back_before_its_own_age_is_over() -> None:
    """The tiers are 10 s, 2 min and 30 min. The settings' own age changes no tier."""
    state = RetryState(100.0, 0.0, 2)
    for own, number in ((math.inf, 2), (1_900.0, 2), (1_899.0, 1), (220.0, 1), (219.0, 0), (101.0, 0)):
        bounded = state._replace(bounds=RetryBounds(max_age_secs=own))
        assert move_on(bounded, retry_policy(max_age_secs=101)).tier == POLICY.tiers[number]


def test_undecodable_records_are_the_producers_fault() -> None:
    reasons = get_args(DeadReason)
    by_fault = {fault: {reason for reason in reasons if fault_of(reason) == fault} for fault in FAULTS}
    assert by_fault == {
        "customer": {"rejected", "blocked", "suspended", "expired", "oversize"},
        "producer": {"undecodable"},
        "ours": set(),
    }
    assert fault_of("foreign") == "producer"


def test_an_event_without_any_vendor_is_our_fault() -> None:
    assert fault_of("undecodable", "vendor") == "ours"
    assert fault_of("undecodable", "pushrail-vendor") == "producer", "a header that is empty or no UTF-8"
    assert fault_of("rejected", "vendor") == "customer", "AWS may call an error anything"
