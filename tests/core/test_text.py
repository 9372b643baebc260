"""Texts: RFC 3339 times, and messages without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core import text as module
from pushrail_stream.core.text import (
    MAX_MESSAGE_BYTES,
    MAX_TIME_MS,
    MIN_TIME_MS,
    format_age,
    format_rfc3339,
    format_span,
    parse_rfc3339,
    safe_message,
)
from tests.support.samples import texts

SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjEMf//////////wEaCXVzLWVhc3QtMSJHMEUCIQDw5gvQ1Zx2fYJk3H0pV9bq8sT4uN6mRkE="
SIGNATURE = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
ACCESS_DENIED = (
    "User: arn:aws:sts::123456789012:assumed-role/PushrailEventBridgeWriter/pushrail is not authorized to perform: "
    "events:PutEvents on resource: arn:aws:events:us-east-1:123456789012:event-bus/pushrail-events "
    "because no identity-based policy allows the events:PutEvents action"
)


@pytest.mark.parametrize(
    ("text", "epoch_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-05-26T14:21:08Z", 1_779_805_268_000),
        ("2026-05-26t14:21:08z", 1_779_805_268_000),
        ("2026-05-26T16:21:08+02:00", 1_779_805_268_000),
        ("2026-05-26T08:51:08-05:30", 1_779_805_268_000),
        ("2026-05-26T14:21:08-00:00", 1_779_805_268_000),
        ("2026-05-26T14:21:08.4Z", 1_779_805_268_400),
        ("2026-05-26T14:21:08.49Z", 1_779_805_268_490),
        ("2026-05-26T14:21:08.493Z", 1_779_805_268_493),
        ("2026-05-26T14:21:08.493123Z", 1_779_805_268_493),
        ("2026-05-26T14:21:08.493123999+00:00", 1_779_805_268_493),
        ("2026-05-26T14:21:08." + "9" * 500 + "Z", 1_779_805_268_999),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2016-12-31T23:59:60.5Z", 1_483_228_800_500),
        ("2017-01-01T00:59:60+01:00", 1_483_228_800_000),
        ("1969-12-31T23:59:59.5Z", -500),
        ("2000-02-29T00:00:00Z", 951_782_400_000),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140_000),
        ("9999-12-31T23:59:60-23:59", 253_402_387_140_000),
    ],
)
def test_an_rfc_3339_time_is_a_moment(text: str, epoch_ms: int) -> None:
    assert parse_rfc3339(text) == epoch_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-05-26",
        "2026-05-26T14:21:08",
        "2026-05-26T14:21Z",
        "2026-05-26T14Z",
        "2026-05-26 14:21:08Z",
        "20260526T142108Z",
        "2026-W22-2T14:21:08Z",
        "2026-146T14:21:08Z",
        "2026-05-26T14:21:08,5Z",
        "2026-05-26T14:21:08.Z",
        "2026-05-26T14:21:08+0200",
        "2026-05-26T14:21:08+02",
        "2026-05-26T14:21:08+24:00",
        "2026-05-26T14:21:08+02:60",
        "2026-05-26T14:21:08+02:00:30",
        "2026-05-26T24:00:00Z",
        "2026-05-26T14:60:08Z",
        "2026-05-26T14:21:61Z",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-10T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "12026-05-26T14:21:08Z",
        "-2026-05-26T14:21:08Z",
        " 2026-05-26T14:21:08Z",
        "2026-05-26T14:21:08Z\n",
        "٢٠٢٦-05-26T14:21:08Z",
        "2026-05-26T14:21:08Z[UTC]",
    ],
)
def test_another_form_is_none(text: str) -> None:
    assert parse_rfc3339(text) is None


@given(
    texts | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})")
)
def test_no_text_can_raise(text: str) -> None:
    parse_rfc3339(text)


@given(
    st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)),  # noqa: DTZ001 - the offset is drawn by itself
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_equal_times_have_equal_values(moment: datetime, minutes: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    elapsed = aware - datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_rfc3339(aware.isoformat()) == (
        elapsed.days * 86_400_000 + elapsed.seconds * 1000 + elapsed.microseconds // 1000
    )


def test_times_are_shown_in_utc_with_milliseconds() -> None:
    assert format_rfc3339(1_779_805_268_493) == "2026-05-26T14:21:08.493Z"
    assert format_rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert format_rfc3339(-1) == "1969-12-31T23:59:59.999Z"


def test_a_year_outside_four_digits_is_clamped() -> None:
    assert format_rfc3339(2**63 - 1) == format_rfc3339(MAX_TIME_MS) == "9999-12-31T23:59:59.999Z"
    assert format_rfc3339(-(2**63)) == format_rfc3339(MIN_TIME_MS) == "0001-01-01T00:00:00.000Z"


@given(st.integers(MIN_TIME_MS, MAX_TIME_MS))
def test_a_time_shown_is_a_time_read(epoch_ms: int) -> None:
    assert parse_rfc3339(format_rfc3339(epoch_ms)) == epoch_ms


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("The key AKIAIOSFODNN7EXAMPLE is unknown", "The key AKIAIO*** is unknown"),
        ("'ASIAIOSFODNN7EXAMPLE'", "'ASIAIO***'"),
        (
            "Credential=AKIAIOSFODNN7EXAMPLE/20260526/us-east-1/events/aws4_request",
            "Credential=AKIAIO***/20260526/us-east-1/events/aws4_request",
        ),
        (
            f"x-amz-security-token:{TOKEN}\nx-amz-target:AWSEvents.PutEvents",
            "x-amz-security-token:***\nx-amz-target:AWSEvents.PutEvents",
        ),
        (f"X-Amz-Security-Token={TOKEN.replace('/', '%2F')};", "X-Amz-Security-Token=***;"),
        ("X-Amz-Security-Token: short, and on", "X-Amz-Security-Token: ***, and on"),
        (f"SignedHeaders=host, Signature={SIGNATURE}", "SignedHeaders=host, Signature=***"),
        (f"X-Amz-Signature={SIGNATURE[:16]}", "X-Amz-Signature=***"),
        (f"signature = {SIGNATURE.upper()}", "signature = ***"),
        (SECRET_KEY, "***"),
        (f'"SecretAccessKey": "{SECRET_KEY}"', '"SecretAccessKey": "***"'),
        (f"aws_secret_access_key={SECRET_KEY}", "aws_secret_access_key=***"),
        (f"secret={SECRET_KEY}===", "secret=***="),
        (f"arn:aws:iam::123456789012:user/x,{SECRET_KEY}", "arn:aws:iam::123456789012:user/x,***"),
        (f"<SessionToken>{TOKEN}<", "<SessionToken>***<"),
        (
            f"for arn:aws:iam::123456789012:user/x the secret {SECRET_KEY}",
            "for arn:aws:iam::123456789012:user/x the secret ***",
        ),
        (f"The Canonical String should have been '{SIGNATURE}'", "The Canonical String should have been '***'"),
    ],
)
def test_credentials_are_removed(text: str, safe: str) -> None:
    assert safe_message(text) == safe


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Rate exceeded",
        "Detail is malformed.",
        "Total size of the entries in the request is over the limit.",
        "Unable to determine service/operation name to be authorized",
        "The security token included in the request is expired",
        "Signature expired: 20260526T142108Z is now earlier than 20260526T143000Z (20260526T143500Z - 5 min.)",
        "Event bus pushrail-events does not exist. Request ID: 7f1c2d54-9d58-4d0e-8f4f-6a1f0f3d2b1c",
        ACCESS_DENIED,
        ACCESS_DENIED.replace("Writer/pushrail", "WriterForProduction/pushrailstreamworkers"),
        ACCESS_DENIED.replace("aws:", "aws-us-gov:"),
        "User: arn:aws:iam::123456789012:role/"
        + "teams/platform/integrations/partners/" * 3
        + "Writer may not, or might",
        "Could not connect to the endpoint URL: 'https://events.us-east-1.amazonaws.com/'",
        "arn:aws:events:us-east-1:123456789012:event-bus/" + "x" * 100,
        "Ereignisbus für Zürich: 東京 🚆",
    ],
)
def test_useful_details_stay(text: str) -> None:
    assert safe_message(text) == text


@given(texts)
def test_a_message_is_cut_to_a_kibibyte(text: str) -> None:
    for whole in (text, text * 200, "é" * 511 + text, "x" + "🚆" * 300):
        kept = safe_message(whole)
        assert len(kept.encode()) <= MAX_MESSAGE_BYTES
        assert safe_message(kept) == kept
    assert safe_message("é" * 600) == "é" * 512
    assert safe_message("x" + "🚆" * 300) == "x" + "🚆" * 255


@given(st.text(st.sampled_from("ab \n'=,é"), max_size=60), st.text(st.sampled_from("ab \n',é"), max_size=60))
def test_a_secret_is_removed_in_any_context(before: str, after: str) -> None:
    for secret in (SECRET_KEY, TOKEN, SIGNATURE):
        assert secret not in safe_message(before + secret + after)


def test_a_secret_is_removed_before_the_cut() -> None:
    assert safe_message("." * 1010 + SECRET_KEY) == "." * 1010 + "***"


def test_a_lone_surrogate_is_replaced() -> None:
    assert safe_message("bus \ud83d gone") == "bus ? gone"


FAILED = "failed to satisfy constraint: Member must not be null"
QUOTED = {
    "one value": (
        f"1 validation error detected: Value 'acct_8K' at 'entries.1.member.detail' {FAILED}",
        "1 validation error detected: Value '***' at 'entries.1.member.detail'",
    ),
    "several values": (
        f"2 errors detected: Value 'acct_8K' at 'entries' {FAILED}; Value 'x' at 'entries.2.source' {FAILED}",
        "2 errors detected: Value '***' at 'entries.2.source'",
    ),
    "a value that looks like the end of a message": (
        f"1 validation error detected: Value '[note=' at 'acct_8K' failed]' at 'entries' {FAILED}",
        "1 validation error detected: Value '***' at 'entries'",
    ),
    "a value that is cut off": ("1 validation error: Value '[{acct_8K, 7", "1 validation error: Value '***'"),
    "a field that is no name": ("Value 'acct_8K' at 'acct 8K'", "Value '***'"),
    "a value of several lines": (f"Value 'acct\n8K' at 'name' {FAILED}", "Value '***' at 'name'"),
    "no value of the request": ("a 'Valued' customer at 'home'", "a 'Valued' customer at 'home'"),
}


@pytest.mark.parametrize(("text", "kept"), QUOTED.values(), ids=QUOTED)
def test_quoted_values_are_removed(text: str, kept: str) -> None:
    assert safe_message(text) == kept
    assert safe_message(kept) == kept


@pytest.mark.parametrize("text", [f"{'a' * 39} ", "signature ", "x-amz-security-token "])
def test_the_search_covers_64_ki_characters(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = list[int]()

    class Watched(NamedTuple):
        pattern: re.Pattern[str]

        def sub(self, replacement: Callable[[re.Match[str]], str], text: str) -> str:
            searched.append(len(text))
            return self.pattern.sub(replacement, text)

    secrets = tuple((Watched(pattern), replacement) for pattern, replacement in module._SECRETS)
    monkeypatch.setattr(module, "_SECRETS", secrets)
    kept = safe_message(text * ((4 << 20) // len(text)))
    assert len(searched) == len(secrets)
    assert max(searched) <= 64 << 10
    assert len(kept) <= MAX_MESSAGE_BYTES


def test_a_credential_at_the_cut_is_removed() -> None:
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    for length in range((64 << 10) - 50, (64 << 10) + 5):
        assert "wJal" not in safe_message("x " * (length // 2) + secret)


@pytest.mark.parametrize(
    ("secs", "shown"),
    [
        (-5, "0 s"), (0.4, "0 s"), (59, "59 s"), (80, "1 min 20 s"), (7_530, "2 h 5 min"), (97_200, "1 d 3 h"),
    ],
)  # fmt: skip
def test_a_span_has_its_two_largest_units(secs: float, shown: str) -> None:
    assert format_span(secs) == shown


def test_an_age_tells_its_direction() -> None:
    assert [format_age(secs) for secs in (80, 0.4, -0.4, -7_530)] == [
        "1 min 20 s ago",
        "0 s ago",
        "0 s ago",
        "2 h 5 min ahead",
    ]
