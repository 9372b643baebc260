"""Records taken from a consumer: in amounts that memory can bear, whatever their content."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from operator import methodcaller
from typing import Any, Final, cast

from confluent_kafka import Consumer, Message

from pushrail_stream.core.record import NOT_UTF8, Headers, Record, TopicIdentity

_FIRST_STEP: Final = 16
"""Records requested before their size is known. Steps double: five calls make a batch of 500 small ones."""
_NAME_NOT_UTF8: Final = (SystemError, UnicodeDecodeError)
"""Raised by the client's `Message.headers` when the name of a header is not UTF-8."""
_NAME_AND_VALUE: Final = 2
_HEADERS: Final = methodcaller("headers")
"""Calls `Message.headers`. When a header's name is not UTF-8, that method sets an exception and returns a list all the
same. An ordinary call, once Python has specialised it, does not notice: the exception would show up at some later
line. `map` and `methodcaller` always notice, and raise."""


def take_messages(consumer: Consumer, wait_secs: float, max_records: int, max_bytes: int) -> list[Message]:
    """The messages that are there, errors included; waits up to ``wait_secs`` for the first.

    They are fewer than ``max_records`` when they are large: about ``max_bytes``. The client copies each record that it
    hands over, and its queue may hold hundreds of megabytes, because one small batch can decompress to many times its
    size.
    """
    # poll() and then consume(): consume() alone waits its whole time-out.
    first = consumer.poll(wait_secs)
    if first is None:
        return []
    messages, size, step = [first], len(first), _FIRST_STEP
    while (room := max_records - len(messages)) > 0 and size < max_bytes:
        fitting = (max_bytes - size) * len(messages) // max(1, size)
        count = max(1, min(step, room, fitting))
        more = consumer.consume(count, 0)
        messages += more
        size += sum(map(len, more))
        if len(more) < count:
            break
        step *= 2
    return messages


def records_of(messages: Sequence[Message], topics: Mapping[str, TopicIdentity]) -> list[Record]:
    """The records of messages, none of which may be an error. ``topics``: those whose identity is known."""
    topic_ids = {name: topic.topic_id for name, topic in topics.items()}
    try:
        return _records(messages, topic_ids, Message.headers)
    except _NAME_NOT_UTF8:
        return _records(messages, topic_ids, _readable_headers)


def _records(
    messages: Sequence[Message],
    topic_ids: Mapping[str, str],
    headers_of: Callable[[Message], Iterable[Any] | None],
) -> list[Record]:
    # A message without an error has them all; the library's types allow for the others.
    return [
        Record(
            topic := message.topic(),
            message.partition(),
            message.offset(),
            message.key(),
            message.value(),
            tuple(headers or ()),
            message.timestamp()[1],
            topic_ids.get(topic),
            message.leader_epoch(),
        )
        for message, headers in zip(cast("Sequence[Any]", messages), map(headers_of, messages), strict=True)
    ]


def _readable_headers(message: Message) -> Headers:
    """A message's headers; `NOT_UTF8` stands for each name that is not UTF-8.

    The client raises once and keeps the list that it has made. In that list, a header whose name it could not decode
    is a tuple without a first item. Such a tuple must not be indexed or unpacked, but the garbage collector can tell
    its items.
    """
    with suppress(*_NAME_NOT_UTF8):
        _HEADERS(message)
    return tuple(
        header if len(items := gc.get_referents(header)) == _NAME_AND_VALUE else (NOT_UTF8, items[0])
        for header in cast("list[tuple[str, bytes | None]]", _HEADERS(message) or [])
    )
