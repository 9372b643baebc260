"""``plan``: the calculator for people and for programs."""

from __future__ import annotations

import json

import pytest

from tests.support.commands import Shell

pytestmark = pytest.mark.usefixtures("one_destination")


def test_every_figure_names_its_source(shell: Shell) -> None:
    code, out, err = shell("plan", "--events", "2000", "--customers", "5000", "--size", "1500", "--fan-out", "1.2")
    head, *lines = out.splitlines()
    assert (code, err, head.split()) == (0, "", ["group", "figure", "value", "unit", "source"])
    assert len(lines) > 15
    assert "6,000" in lines[0]
    assert "--events x --peak" in lines[0]


def test_a_plan_for_programs_is_one_object(shell: Shell) -> None:
    code, out, err = shell("plan", "--events", "50000", "--customers", "5", "--largest", "60", "--json")
    told = json.loads(out)
    assert (code, told["load"]["roundTripMs"], told["load"]["events"]) == (0, 50.0, 50_000.0)
    assert {"group", "name", "value", "unit", "source", "warning"} == set(told["figures"][0])
    assert len(told["warnings"]) == len(err.splitlines()) > 0
    assert err.startswith("warning: largest customer: CPU of its worker: one worker cannot deliver")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--events", "0"], "Invalid value for '--events'"),
        (["--largest", "101"], "Invalid value for '--largest'"),
        (["--events", "nan"], "Invalid value for '--events': nan is not a finite number"),
        (["--peak", "inf"], "Invalid value for '--peak': inf is not in the range"),
        (["--fan-out", "1e308"], "Invalid value for '--fan-out'"),
        (["--size", "1" + "0" * 30], "Invalid value for '--size'"),
        (["--million-usd", "nan"], "Invalid value for '--million-usd'"),
        (["--region", "mars"], "--region: must be an AWS region such as us-east-1"),
    ],
)
def test_wrong_usage_is_refused(shell: Shell, words: list[str], problem: str) -> None:
    code, _, err = shell("plan", "--events", "1", "--customers", "1", *words)
    assert (code, err.startswith(f"error: {problem}")) == (2, True)


def test_the_largest_load_is_planned(shell: Shell) -> None:
    names = ("--events", "--customers", "--size", "--fan-out", "--peak", "--round-trip-ms", "--million-usd")
    assert shell("plan", *(word for name in names for word in (name, "1000000000")))[0] == 0
