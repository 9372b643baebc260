"""The JSON Schema of settings takes what the reader takes, and refuses what can be expressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError

from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.schema import settings_schema

SHIPPED: Final = Path(__file__).parents[2] / "config" / "pushrail.yaml"
SCHEMA: Final = settings_schema()
CHECK: Final = Draft202012Validator(SCHEMA)
SECTIONS: Final = {
    name: info.annotation
    for name, info in Settings.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
}
KEYS: Final = [(name, key) for name, section in SECTIONS.items() for key in section.model_fields]
VALUES: Final[tuple[Any, ...]] = (
    None, "", " ", "x", "a b", "9464", " 9464 ", "1_000", "2.0", "1e2", "yes", "OFF", "f", 0, -1, 1, 1.0, 1.5, 7, 10**9,
    [], {}, {"a.b": "5"}, {"linger.ms": 5}, {"acks": "all"}, {"auto.offset.reset": "latest"}, {"A": None},
    "http://a:1/{region}", "HTTPS://host", "http://user@host", "ftp://x", "env:RING", "env:ring", "{}", "keyring.json",
    "aws-kms:arn:aws:kms:us-east-1:123456789012:key/abc-1", "aws-kms:alias/x", "us-east-1", "earliest", "dlq",
    "classic", {"retry.10s": 10, "retry.2m": "120"}, {"a topic": 10}, "cloudevents",
    {"method": "msk_iam", "region": "eu-west-1"},
)  # fmt: skip


def is_read(values: object) -> bool:
    try:
        Settings.model_validate(values)
    except ValidationError:
        return False
    return True


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("values", [{}, yaml.safe_load(SHIPPED.read_text()), {"kafka": None}, {"vendor": "acme"}])
def test_valid_settings_are_taken(values: dict[str, Any]) -> None:
    assert list(CHECK.iter_errors(values)) == []


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_a_value_that_is_read_is_taken(section: str, key: str) -> None:
    taken = 0
    for value in VALUES:
        values = {section: {key: value}}
        if is_read(values):
            assert list(CHECK.iter_errors(values)) == [], value
            taken += 1
    assert 0 < taken < len(VALUES)


@pytest.mark.parametrize(
    "values",
    [
        {"kafak": {}},
        {"kafka": {"client": {"acks": "1"}}},
        {"kafka": {"client": {"linger.ms": None}}},
        {"kafka": {"client": {"auto.offset.reset": "latest"}}},
        {"kafka": {"group_protocol": "new"}},
        {"kafka": {"group_id": "  "}},
        {"topics": {"events": "a topic"}},
        {"topics": {"retry": {}}},
        {"topics": {"retry": {"a topic": 10}}},
        {"topics": {"retry": {"retry.10s": 0}}},
        {"delivery": {"max_in_flight": 257}},
        {"delivery": {"flush_ms": "soon"}},
        {"delivery": {"flush_msec": 100}},
        {"registry": {"topic": "perhaps"}},
        {"sts": {"region": "mars"}},
        {"eventbridge": {"endpoint_url": "events.example.com"}},
        {"secrets": {"keyring": "aws-kms:alias/ours"}},
        {"vendor": "a/b"},
        [],
    ],
)
def test_wrong_settings_are_refused(values: object) -> None:
    assert not CHECK.is_valid(values)
    assert not is_read(values)
