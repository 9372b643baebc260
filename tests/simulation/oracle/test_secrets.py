"""Secrets that were written."""

from __future__ import annotations

import pytest

from tests.simulation.oracle.evidence import METRICS_PAGE, STATUS_PAGE, Text
from tests.simulation.oracle.secrets import find_secrets
from tests.simulation.oracle.told import DLQ, WORKER, Told, delivered

SECRET = "wJalrXUtnFEMI/K7MDENG"


def secrets(told: Told) -> list[str]:
    told.evidence.secrets.add(SECRET)
    return [violation.sentence for violation in find_secrets(told.story)]


def test_a_story_without_a_secret_in_its_texts_is_good() -> None:
    told, _ = delivered()
    told.evidence.texts.append(Text(1_000.0, WORKER, "log", '{"event": "started"}'))
    assert secrets(told) == []


def test_a_secret_in_a_text_is_found_and_not_told() -> None:
    told, _ = delivered()
    told.evidence.texts.append(Text(1_000.0, WORKER, "log", f"refused ({SECRET})"))
    (found,) = secrets(told)
    assert found == "log of worker-1 at 1000.000 has a secret: refused (***)"


@pytest.mark.parametrize("where", [METRICS_PAGE, STATUS_PAGE])
def test_a_secret_on_a_page_is_found(where: str) -> None:
    told, _ = delivered()
    told.evidence.texts.append(Text(1_000.0, WORKER, where, f"<td>{SECRET}</td>"))
    assert secrets(told) == [f"{where} of worker-1 at 1000.000 has a secret: <td>***</td>"]


def test_a_secret_in_an_error_is_found() -> None:
    told, _ = delivered()
    told.evidence.raised.append(Text(1_000.0, WORKER, "task", SECRET))
    assert len(secrets(told)) == 1


def test_a_secret_in_a_record_is_found() -> None:
    told, _ = delivered()
    one = told.write(1_003.0, DLQ, b"{}", (("pushrail-error-message", SECRET.encode()),), WORKER)
    assert len(secrets(told)) == 1
    one.host = ""
    assert secrets(told) == [], "the world may write anything"
