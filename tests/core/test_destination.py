"""Destinations: their filters, and secrets that stay hidden."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import traceback

import orjson
import pytest

from pushrail_stream.core.destination import Limits, Secret
from pushrail_stream.settings.eventbridge import AccessKey
from tests.support.builders import destination
from tests.support.samples import DESTINATION

HIDDEN = "wJalrXUtnFEMI/K7MDENG"
WITH_KEY = destination(auth=AccessKey("AKIAIOSFODNN7EXAMPLE", Secret(HIDDEN)))


@pytest.mark.parametrize(
    ("patterns", "wanted", "unwanted"),
    [
        ((), ["order.created", "", "é"], []),
        (("*",), ["order.created", "é"], []),
        (("order.*",), ["order.created", "order.line.added", "order."], ["order", "orders.created", "xorder.created"]),
        (("order.created",), ["order.created"], ["order.created.v2", "Order.created", "order"]),
        (("order.paid", "user.*"), ["order.paid", "user.left"], ["order.created", "users"]),
        (("o.der",), ["o.der"], ["order"]),
    ],
)
def test_the_filter_selects_event_types(patterns: tuple[str, ...], wanted: list[str], unwanted: list[str]) -> None:
    filtered = destination(event_types=patterns)
    assert all(filtered.wants_type(event_type) for event_type in wanted)
    assert not any(filtered.wants_type(event_type) for event_type in unwanted)


def test_a_changed_document_is_another_destination() -> None:
    assert destination() == DESTINATION
    assert destination(limits=Limits(50.0, 8)) != DESTINATION
    assert destination(auth=AccessKey("AKIAIOSFODNN7EXAMPLE", Secret("old"))) != WITH_KEY
    assert destination(auth=AccessKey("AKIAIOSFODNN7EXAMPLE", Secret(HIDDEN))) == WITH_KEY


def test_reveal_returns_the_secret() -> None:
    secret = Secret(HIDDEN)
    assert secret.reveal() == HIDDEN
    assert {secret: 1}[Secret(HIDDEN)] == 1
    assert secret != Secret("another")
    assert secret != HIDDEN


def _fail(*reasons: object) -> None:
    raise ValueError(*reasons)


def test_nothing_else_shows_the_secret() -> None:
    secret = Secret(HIDDEN)
    with pytest.raises(ValueError, match="refused") as caught:
        _fail("refused", secret, WITH_KEY)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r}", "%s" % secret, repr([secret]), repr(WITH_KEY)]  # noqa: UP031
    shown += [str(WITH_KEY.bus.auth), f"{WITH_KEY}", "".join(frames.format()), repr(dataclasses.astuple(Limits()))]
    assert "***" in repr(WITH_KEY)
    assert not [text for text in shown if HIDDEN in text]
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", [Secret(HIDDEN), WITH_KEY])
def test_a_secret_is_not_pickled(value: object, protocol: int) -> None:
    with pytest.raises(TypeError, match="not serialised"):
        pickle.dumps(value, protocol)


def test_a_secret_cannot_be_copied_or_dumped() -> None:
    with pytest.raises(TypeError, match="not serialised"):
        copy.deepcopy(WITH_KEY)
    with pytest.raises(TypeError, match="not serialised"):
        dataclasses.asdict(WITH_KEY)
    with pytest.raises(TypeError):
        json.dumps(Secret(HIDDEN))
    with pytest.raises(TypeError):
        orjson.dumps(WITH_KEY)
