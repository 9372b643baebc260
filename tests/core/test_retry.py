"""Retry: patience with the moment, none with what cannot be mended, and no dead letter for our own faults."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.outcome import Blocked, Delivered, Outcome, Rejected, Retryable, Throttled
from pushrail_stream.core.retry import Again, Bury, Decision, RetryPolicy, Settle, backoff, decide

POLICY = RetryPolicy()
DAY = 86_400.0
jitters = st.floats(0, 1, exclude_max=True)
policies = st.builds(RetryPolicy, st.floats(0.001, 1e6), st.floats(0.001, 1e6), st.floats(0, 1e9))


def after(outcome: Outcome, *, attempts: int = 1, age_secs: float = 0.0, jitter: float = 0.5) -> Decision:
    return decide(outcome, attempts=attempts, age_secs=age_secs, jitter=jitter, policy=POLICY)


@pytest.mark.parametrize(
    ("outcome", "young", "old"),
    [
        (Delivered("event-1"), Settle(), Settle()),
        (Retryable("500", "oh"), Again(0.1, "retryable"), Bury("expired", "500", "oh")),
        (Retryable("SignatureDoesNotMatch", "we", ours=True), Again(0.1, "retryable"), Again(0.1, "retryable")),
        (Throttled("SlowDown", "hey"), Again(0.1, "throttled"), Bury("expired", "SlowDown", "hey")),
        (
            Rejected("MalformedDetail", "no"),
            Bury("rejected", "MalformedDetail", "no"),
            Bury("rejected", "MalformedDetail", "no"),
        ),
        (
            Blocked("AccessDenied", "never"),
            Bury("blocked", "AccessDenied", "never"),
            Bury("blocked", "AccessDenied", "never"),
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


@given(st.integers(1, 10**9), st.floats(0, 1e12), jitters)
def test_our_own_fault_is_never_a_dead_letter(attempts: int, age_secs: float, jitter: float) -> None:
    ours = Retryable("InvalidClientTokenId", "our key", ours=True)
    assert isinstance(after(ours, attempts=attempts, age_secs=age_secs, jitter=jitter), Again)


@pytest.mark.parametrize(
    ("attempts", "longest"), [(1, 0.2), (2, 0.4), (3, 0.8), (4, 1.6), (7, 12.8), (8, 20.0), (9, 20.0), (10**9, 20.0)]
)
def test_the_pause_is_any_part_of_a_doubling_and_capped_time(attempts: int, longest: float) -> None:
    assert backoff(attempts, 0.0, POLICY) == 0.0
    assert backoff(attempts, 0.25, POLICY) == pytest.approx(longest / 4)
    assert backoff(attempts, 1.0, POLICY) == pytest.approx(longest)
    assert after(Retryable("500", ""), attempts=attempts, jitter=0.25) == Again(
        backoff(attempts, 0.25, POLICY), "retryable"
    )


@given(st.integers(1, 10**12), jitters, policies)
def test_no_pause_is_negative_or_over_the_cap(attempts: int, jitter: float, policy: RetryPolicy) -> None:
    assert 0 <= backoff(attempts, jitter, policy) <= policy.backoff_cap_secs
    assert backoff(attempts, jitter, policy) <= backoff(attempts + 1, jitter, policy)


@given(st.floats(0, 1e9), policies)
def test_a_delivery_expires_at_its_policys_age_and_not_before(age_secs: float, policy: RetryPolicy) -> None:
    decided = decide(Retryable("500", ""), attempts=3, age_secs=age_secs, jitter=0.5, policy=policy)
    assert isinstance(decided, Bury) == (age_secs >= policy.max_age_secs)
