"""Calls are signed with the credentials of today: a new key pair is used at once, and a refused session is renewed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Call, Violation

ASSERTION: Final = "calls are signed with the credentials of today"
_KEPT_SECS: Final = 15.0
"""Time in seconds for which a session that replaced a refused one is kept, although it is refused too."""
_APART_SECS: Final = 10.0
"""Time in seconds between two refusals of which the first may not be in flight any more when the second is sent."""
_REFUSALS: Final = 3
"""Refusals of a session, apart from each other, of which the worker has certainly seen the first but one in time: the
first may have met a call that was repeated with a new session already."""
_SESSION: Final = "ASIA"
"""The beginning of a session's key id. Any other key is a customer's own."""


def find_old_credentials(story: Deliveries) -> Iterator[Violation]:
    """A violation for each key that is used for too long."""
    by_key: dict[tuple[str, str, str], list[Call]] = defaultdict(list)
    for group, calls in story.calls_of.items():
        for call in calls:
            if call.api == "PutEvents" and call.access_key:
                by_key[call.host, group, call.access_key].append(call)
    for (host, group, key), calls in by_key.items():
        if key.startswith(_SESSION):
            yield from _find_refused_session(host, group, calls)
        else:
            yield from _find_old_pair(story, host, group, calls)


def _find_refused_session(host: str, group: str, calls: list[Call]) -> Iterator[Violation]:
    """A session that is used although AWS refused it again and again."""
    last, count = calls[0].at + _KEPT_SECS - _APART_SECS, 0
    for call in calls:
        if _is_denied(call) and call.at >= last + _APART_SECS:
            last, count = call.answered_at or call.at, count + 1
            if count == _REFUSALS:
                sentence = f"{host} signed a call to {group} at {call.at:.3f} with a session that was refused before"
                yield Violation(ASSERTION, sentence, call.at)
                return


def _is_denied(call: Call) -> bool:
    """Whether the session that signed a call may be to blame for its refusal, and the host knows it."""
    return call.is_clear and call.fault == "customer" and call.code.startswith("AccessDenied")


def _find_old_pair(story: Deliveries, host: str, group: str, calls: list[Call]) -> Iterator[Violation]:
    """A key pair that no document has had for a while. Sealed secrets may wait for their key, which takes longer."""
    if any(call.api == "Decrypt" and call.status != 200 for call in story.evidence.calls):
        return
    for call in calls:
        if call.access_key not in story.documents.access_keys(group, call.at - story.stale_secs(call.at), call.at):
            sentence = f"{host} signed a call to {group} at {call.at:.3f} with a key pair that no document has any more"
            yield Violation(ASSERTION, sentence, call.at)
            return
