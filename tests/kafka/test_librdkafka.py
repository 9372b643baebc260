"""Facts about librdkafka, compared with the installed library; and the trial of a client."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pushrail_stream.errors import UsageError
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.librdkafka import CONSUMER_ONLY, PRODUCER_ONLY, parse_number
from pushrail_stream.settings.client import ALIASES
from tests.support.kafka.librdkafka import SECRET, Known, refusal, sample, settings


def test_our_lists_of_properties_match_librdkafka(
    known: dict[str, Known],
) -> None:
    settable = {name: p for name, p in known.items() if "engine" not in refusal(name, sample(p))}
    dedicated = {"msg_order_cmp"}
    assert {name for name, p in settable.items() if p.kind == "C"} == CONSUMER_ONLY
    assert {name for name, p in settable.items() if p.kind == "P"} - dedicated == PRODUCER_ONLY
    assert {name: p.alias_of for name, p in settable.items() if p.alias_of} == ALIASES


def test_a_refusal_begins_with_the_property() -> None:
    with pytest.raises(UsageError, match=r"ssl\.ca\.location failed") as caught:
        checked_kafka(settings({"ssl.ca.location": "/missing", "security.protocol": "ssl"}))
    assert "to create" not in str(caught.value)


@contextmanager
def counting_door() -> Iterator[tuple[str, list[object]]]:
    """An address, and the connections that were made to it."""
    found: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as door:

        def let_in() -> None:
            while True:
                connection, address = door.accept()
                connection.close()
                if found and found[-1] == "end":
                    return
                found.append(address)

        thread = threading.Thread(target=let_in)
        thread.start()
        host, port = door.getsockname()
        yield f"{host}:{port}", found
        calls = list(found)
        found.append("end")
        socket.create_connection((host, port)).close()
        thread.join()
        found[:] = calls


def test_the_trial_connects_to_nothing() -> None:
    with counting_door() as (address, connections):
        checked_kafka(
            settings(
                {
                    "security.protocol": "SASL_PLAINTEXT",
                    "sasl.mechanism": "OAUTHBEARER",
                    "sasl.oauthbearer.method": "oidc",
                    "sasl.oauthbearer.client.id": "any",
                    "sasl.oauthbearer.client.secret": SECRET,
                    "sasl.oauthbearer.token.endpoint.url": f"http://{address}/",
                },
                bootstrap_servers=address,
            )
        )
    assert connections == []


@pytest.mark.parametrize("name", ["message.max.bytes", "batch.size", "socket.timeout.ms", "receive.message.max.bytes"])
@pytest.mark.parametrize("value", ["abc", "", ".", "-7", True, float("inf"), float("nan"), "9" * 30])
def test_an_invalid_number_is_refused_by_name(name: str, value: str | float) -> None:
    assert f"kafka.client.{name}: " in refusal(name, value)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1_000_000, 1_000_000), (1_000_000.0, 1_000_000), (" 1000000", 1_000_000), ("+7", 7), ("0x10", 16), ("010", 8),
        ("0", 0), ("12 ", 12), (None, None), (True, None), ("", None), ("x", None), ("-1", None), ("9" * 21, None),
    ],
)  # fmt: skip
def test_numbers_are_read_as_librdkafka_reads_them(value: object, number: int | None) -> None:
    assert parse_number(value) == number
