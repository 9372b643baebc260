"""The destination document: accepted as the destination it describes, or refused field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pushrail_stream.core.destination import CustomerBus, Destination, Limits, RetryBounds, Secret
from pushrail_stream.registry.documents import NO_CREDENTIALS, Parsed, parse_document, raw_text, stand_in, to_document
from pushrail_stream.registry.json_document import Problem
from pushrail_stream.registry.keyring import Keyring
from pushrail_stream.registry.sealing import Place
from pushrail_stream.settings.eventbridge import AccessKey, AssumeRole
from tests.support.documents import ACCESS_KEY, EXAMPLE, SECRET, SHOWN, accepted, document, parse, refused
from tests.support.samples import decode_example

SHIPPED = Path(__file__).parents[2] / "config" / "destinations" / "acme-8K2zRq.json"


def test_the_example_is_the_destination_it_describes() -> None:
    assert accepted() == Destination(
        id="dst_acme_8K2zRq",
        vendor="acme",
        customer_external_id="acct_8K2zRq",
        name="Customer EventBridge bus",
        bus=CustomerBus(
            type="EVENTBRIDGE",
            arn="arn:aws:events:us-east-1:123456789012:event-bus/pushrail-events",
            region="us-east-1",
            auth=AssumeRole("arn:aws:iam::123456789012:role/PushrailEventBridgeWriter", "acme-ext-7Pq2"),
        ),
        source="pushrail.acme",
        event_types=("order.*",),
        enabled=True,
        limits=Limits(max_requests_per_second=50, max_in_flight=8, flush_ms=100),
    )


def test_the_shipped_document_is_the_example() -> None:
    assert json.loads(SHIPPED.read_bytes()) == EXAMPLE


def test_optional_fields_have_defaults() -> None:
    destination = accepted(name=..., sourceNamespace=..., eventTypes=..., enabled=..., limits=..., vendor="globex")
    assert destination.name == destination.id
    assert destination.source == "pushrail.globex"
    assert destination.event_types == ()
    assert destination.enabled
    assert destination.limits == Limits(max_requests_per_second=None, max_in_flight=5)


def test_a_document_may_pause_its_destination() -> None:
    assert accepted(paused=True).closed_as == "paused"
    assert accepted(paused=True, enabled=False).closed_as == "disabled"
    assert accepted(paused=False).closed_as is None


def test_a_document_bounds_its_retries() -> None:
    bounded = accepted(retry={"maxAgeSecs": 3600, "maxAttempts": 20})
    assert bounded.retry == RetryBounds(3600, 20)
    assert to_document(bounded)["retry"] == {"maxAgeSecs": 3600, "maxAttempts": 20}
    assert accepted(retry={}).retry == accepted().retry == RetryBounds()


FILTER = {"source": ["pushrail.acme"], "detail": {"payload": {"amount": [{"numeric": [">", 10]}]}}}


def test_a_filter_is_compiled_for_its_destination() -> None:
    event, small = decode_example(payload={"amount": 11}), decode_example(payload={"amount": 10})
    chosen = accepted(filter=FILTER)
    assert to_document(chosen)["filter"] == FILTER
    assert (chosen.wants(event), chosen.wants(small)) == (True, False)
    assert chosen == accepted(filter=json.loads(json.dumps(FILTER)))
    assert not accepted(filter=FILTER, sourceNamespace="acme.events").wants(event)
    assert not accepted(filter=FILTER, detailFormat="cloudevents").wants(event)
    as_data = json.loads(json.dumps(FILTER).replace("payload", "data"))
    assert accepted(filter=as_data, detailFormat="cloudevents").wants(event)


@pytest.mark.parametrize("value", ["10" * 20, '"\\ud800"', "NaN", '{"\\ud800": 5}'])
def test_a_filter_that_no_event_can_match_is_refused(value: str) -> None:
    content = json.dumps(document(filter={"detail": {"a": ["VALUE"]}})).replace('"VALUE"', value).encode()
    problems = parse(content)
    assert not isinstance(problems, Parsed)
    assert [problem.field for problem in problems] == ["filter"]


def test_a_refused_document_keeps_its_good_filter() -> None:
    event, small = decode_example(payload={"amount": 11}), decode_example(payload={"amount": 10})
    known = stand_in(json.dumps(document(region=7, filter=FILTER)).encode())
    assert known is not None
    assert (known.wants(event), known.wants(small)) == (True, False)
    unknown = stand_in(json.dumps(document(filter={"id": ["x"]})).encode())
    assert unknown is not None
    assert unknown.wants(small)


def test_bounds_beyond_those_of_the_settings_are_warned_of() -> None:
    content = json.dumps(document(retry={"maxAgeSecs": 100_000, "maxAttempts": 20})).encode()
    for max_attempts, fields in ((20, ["retry.maxAgeSecs"]), (10, ["retry.maxAgeSecs", "retry.maxAttempts"])):
        bounds = RetryBounds(86_400, max_attempts)
        parsed = parse_document(content, environ={}, default_max_in_flight=5, retry_bounds=bounds)
        assert isinstance(parsed, Parsed)
        assert [caveat.field for caveat in parsed.caveats] == fields
        assert parsed.caveats[0].problem == "is 100000, but delivery.max_age_secs allows 86400, which holds"


@pytest.mark.parametrize(("limits", "flush_ms"), [({}, 250), ({"flushMs": 0}, 0), ({"flushMs": 60_000}, 60_000)])
def test_a_document_has_a_flush_time_or_the_settings_one(limits: dict[str, int], flush_ms: int) -> None:
    content = json.dumps(document(limits=limits)).encode()
    parsed = parse_document(content, environ={}, default_max_in_flight=5, default_flush_ms=250)
    assert isinstance(parsed, Parsed)
    assert parsed.destination.limits.flush_ms == flush_ms


def test_a_secret_may_be_in_the_environment() -> None:
    assert accepted(auth=ACCESS_KEY).bus.auth == AccessKey("AKIDEXAMPLE123456", Secret(SECRET))


@pytest.mark.parametrize("environ", [{}, {"ACME_SECRET": ""}, {"ACME_SECRET": " \n"}])
def test_a_missing_secret_is_a_caveat(environ: dict[str, str]) -> None:
    content = json.dumps(document(auth=ACCESS_KEY)).encode()
    parsed = parse_document(content, environ=environ, default_max_in_flight=5)
    assert isinstance(parsed, Parsed)
    assert parsed.destination.bus.auth == AccessKey("AKIDEXAMPLE123456", None)
    problem = Problem("auth.secretAccessKey", "environment variable ACME_SECRET is not set: nothing is sent")
    assert parsed.caveats == (problem,)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", Problem("", "is not valid JSON: line 1 column 1: expecting value")),
        (b'{\n "id": }', Problem("", "is not valid JSON: line 2 column 8: expecting value")),
        (b'{"id": "\xff"}', Problem("", "is not UTF-8 text (byte 8)")),
        (b"[1]", Problem("", "must be a JSON object")),
        (b"[" * 100_000, Problem("", "is not valid JSON: nested too deeply, or a number too long")),
        (b"9" * 5_000, Problem("", "is not valid JSON: nested too deeply, or a number too long")),
        (b'{"id": 1, "id": 2}', Problem("id", "stands twice in one object")),
    ],
    ids=["empty", "syntax", "utf8", "list", "deep", "long", "twice"],
)
def test_a_value_that_is_no_document_is_refused(content: bytes, problem: Problem) -> None:
    assert refused(content) == (problem,)


def test_every_problem_is_named() -> None:
    found = refused(document(id="", region=1, extra=True))
    assert [problem.field for problem in found] == ["id", "region", "extra"]


def test_output_masks_the_secret() -> None:
    shown = to_document(accepted(auth=ACCESS_KEY, eventTypes=..., limits=...))
    assert shown["auth"] == {"mode": "ACCESS_KEY", "accessKeyId": "AKIDEXAMPLE123456", "secretAccessKey": "***"}
    assert shown["eventTypes"] == ["*"]
    assert shown["limits"] == {"maxRequestsPerSecond": None, "maxInFlight": 5, "flushMs": 100}
    parsed = parse_document(json.dumps(document(auth=ACCESS_KEY)).encode(), environ={}, default_max_in_flight=1)
    assert isinstance(parsed, Parsed)
    assert to_document(parsed.destination)["auth"]["secretAccessKey"] is None


def test_output_of_the_example_is_the_example() -> None:
    assert to_document(accepted()) == SHOWN


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
FIELDS = sorted(EXAMPLE)


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), JSON), st.sampled_from([{}, EXAMPLE]))
def test_any_json_is_accepted_or_refused_in_words(changes: dict[str, Any], base: dict[str, Any]) -> None:
    parsed = parse({**base, **changes})
    if not isinstance(parsed, Parsed):
        assert parsed
        assert all(problem.problem and problem.field.isprintable() for problem in parsed)


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), JSON), st.sampled_from([{}, EXAMPLE]))
@example({"type": "SQS", "busArn": "arn:aws:sqs:us-east-1:123456789012:queue"}, EXAMPLE)
def test_a_refused_document_has_a_stand_in(changes: dict[str, Any], base: dict[str, Any]) -> None:
    found = stand_in(json.dumps({**base, **changes}).encode())
    if found is not None:
        assert found.bus.auth == NO_CREDENTIALS
        assert len(found.bus.arn.split(":")) == 6
    else:
        assert not base or {"id", "vendor", "customerExternalId"} & changes.keys()


@given(st.binary())
def test_any_bytes_are_refused_in_words(content: bytes) -> None:
    assert refused(content)


SURROGATES = st.text(st.characters(categories=["Cs"]), min_size=1, max_size=1)


@given(SURROGATES, st.sampled_from(FIELDS))
def test_half_characters_are_refused(text: str, field: str) -> None:
    for content in (document(**{field: text}), document(**{text: 1}), document(auth={**EXAMPLE["auth"], text: 1})):
        problems = refused(content)
        assert all("\n" not in str(problem) and str(problem).encode() for problem in problems)


SECRETS = st.text(st.sampled_from("abcXYZ0189/+="), min_size=20, max_size=40).map(lambda tail: "s3cr3t/" + tail)
PLACES = ["secretAccessKey", "accessKeyId", "roleArn", "externalId", "mode", "other"]


@given(SECRETS, st.sampled_from(PLACES), st.sampled_from(["ACCESS_KEY", "ASSUME_ROLE"]), st.sampled_from(["", "env:"]))
def test_a_plain_secret_is_never_shown(secret: str, place: str, mode: str, prefix: str) -> None:
    whole = {**(ACCESS_KEY if mode == "ACCESS_KEY" else EXAMPLE["auth"]), "mode": mode, place: prefix + secret}
    parsed = parse(document(auth=whole))
    if isinstance(parsed, Parsed):
        # An external ID is not a secret (AWS), and this text is a legal one.
        assert place == "externalId"
    else:
        assert secret not in repr(parsed)


@given(SECRETS)
def test_a_loaded_secret_is_never_shown(secret: str) -> None:
    content = json.dumps(document(auth=ACCESS_KEY)).encode()
    parsed = parse_document(content, environ={"ACME_SECRET": secret}, default_max_in_flight=1)
    assert isinstance(parsed, Parsed)
    assert isinstance(parsed.destination.bus.auth, AccessKey)
    assert parsed.destination.bus.auth.secret == Secret(secret)
    assert secret not in repr(parsed)
    assert secret not in json.dumps(to_document(parsed.destination))


@pytest.mark.parametrize(
    ("auth", "shown"),
    [
        ({**ACCESS_KEY, "secretAccessKey": "env:ACME_SECRET"}, ...),
        ({**ACCESS_KEY, "secretAccessKey": SECRET}, {**ACCESS_KEY, "secretAccessKey": "***"}),
        ({**ACCESS_KEY, "secretAccessKey": f"sealed:{SECRET}"}, {**ACCESS_KEY, "secretAccessKey": "***"}),
        ({**ACCESS_KEY, "accessKeyId": SECRET}, {**ACCESS_KEY, "accessKeyId": "***"}),
        ({**ACCESS_KEY, "secret": {"key": [SECRET]}}, {**ACCESS_KEY, "secret": "***"}),
        ({"mode": SECRET, "secretAccessKey": SECRET}, "***"),
        (SECRET, "***"),
    ],
)
def test_raw_text_hides_what_may_be_a_secret(auth: Any, shown: Any) -> None:
    text = raw_text(json.dumps(document(auth=auth), indent=1).encode())
    assert isinstance(text, str)
    assert json.loads(text) == document(auth=auth if shown is ... else shown)


def test_raw_text_is_the_text(keys: Keyring) -> None:
    token = keys.seal(Secret(SECRET), Place("acme", EXAMPLE["id"], "auth.secretAccessKey"))
    content = json.dumps(document(auth={**ACCESS_KEY, "secretAccessKey": token}), indent=7) + "\n\n"
    assert raw_text(content.encode()) == content


@pytest.mark.parametrize("content", [b'{"id": "' + SECRET.encode(), b'{"id": 1, "id": 2}', b"\xff"])
def test_raw_text_of_no_json_is_withheld(content: bytes) -> None:
    assert isinstance(raw_text(content), Problem)


def test_raw_text_of_no_object_is_masked() -> None:
    assert raw_text(json.dumps([SECRET]).encode()) == '"***"'
