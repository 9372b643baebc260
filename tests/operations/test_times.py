"""Moments as operators write them."""

from __future__ import annotations

import pytest

from pushrail_stream.errors import UsageError
from pushrail_stream.operations.times import check_period, now_ms, parse_moment


@pytest.mark.parametrize(
    ("text", "ago_ms"), [("0s", 0), ("90s", 90_000), ("15m", 900_000), ("2h", 7_200_000), ("7d", 604_800_000)]
)
def test_a_moment_may_be_a_time_ago(text: str, ago_ms: int) -> None:
    before = now_ms()
    found = parse_moment(text)
    assert found is not None
    assert before - ago_ms <= found <= now_ms() - ago_ms


def test_no_moment_is_before_1970() -> None:
    assert parse_moment("999999d") == 0
    assert parse_moment("1969-12-31T23:59:59Z") is None


def test_a_moment_may_be_a_time() -> None:
    assert parse_moment("2026-11-24T09:00:00Z") == 1_795_510_800_000


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2026-11-24", "2026-11-24T00:00:00Z"),
        ("2026-11-24 9:30", "2026-11-24T09:30:00Z"),
        ("2026-11-24T09:30:07", "2026-11-24T09:30:07Z"),
        ("  2026-11-24   09:30 ", "2026-11-24T09:30:00Z"),
    ],
)
def test_a_day_is_one_of_utc(text: str, same: str) -> None:
    assert parse_moment(text) == parse_moment(same)


def test_a_day_may_be_named() -> None:
    begin = now_ms() // 86_400_000 * 86_400_000
    expected = [begin, begin + 34_200_000, begin - 86_400_000, begin - 36_000_000]
    words = ["today", "today 9:30", "yesterday", "yesterday 14:00"]
    assert [parse_moment(word) for word in words] == expected or begin != now_ms() // 86_400_000 * 86_400_000
    ago = parse_moment("2h ago")
    assert ago is not None
    assert 0 <= (parse_moment("now") or 0) - 7_200_000 - ago < 10_000


@pytest.mark.parametrize(
    "text",
    [
        "", "2", "h", "-2h", "2.5h", "2w", "1234567s", "may", "tomorrow", "monday", "14:00", "11/27", "2026-11",
        "27.11.2026", "2026-13-01", "2026-02-30", "2026-11-24 25:00", "2026-11-24 9", "today 9:3", "2 h", "ago",
        "today 9:30 pm",
    ],
)  # fmt: skip
def test_any_other_text_is_no_moment(text: str) -> None:
    assert parse_moment(text) is None


@pytest.mark.parametrize("period", [(None, None), (5, None), (None, 5), (5, 6)])
def test_a_period_may_be_open(period: tuple[int | None, int | None]) -> None:
    check_period(*period)


@pytest.mark.parametrize(("options", "named"), [("--", "--until"), ("--delivered-", "--delivered-until")])
def test_a_period_ends_after_its_begin(options: str, named: str) -> None:
    for until in (4, 5):
        with pytest.raises(UsageError, match=f"^{named}: must be later than {options}since$"):
            check_period(5, until, options)
