"""The one place where librdkafka's messages become our records. No content of a record makes it raise."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from operator import methodcaller
from typing import Any, Final, cast

from confluent_kafka import Message

from pushrail_stream.core.record import NOT_UTF8, Headers, Record, TopicIdentity

_NAME_NOT_UTF8: Final = (SystemError, UnicodeDecodeError)
"""The client raises these from `Message.headers` when the name of a header is not UTF-8."""
_NAME_AND_VALUE: Final = 2
_ASK: Final = methodcaller("headers")
"""Calls `Message.headers`. When a header's name is not UTF-8, that method sets an exception and returns a list all the
same. An ordinary call, once Python has specialised it, does not notice: the exception would show up at some later
line. `map` and `methodcaller` always notice, and raise."""


def records_of(messages: Sequence[Message], topics: Mapping[str, TopicIdentity]) -> list[Record]:
    """The records of messages, none of which may be an error. ``topics``: those whose identity is known."""
    topic_ids = {name: topic.topic_id for name, topic in topics.items()}
    try:
        return _records(messages, topic_ids, Message.headers)
    except _NAME_NOT_UTF8:
        return _records(messages, topic_ids, _readable)


def _records(
    messages: Sequence[Message],
    topic_ids: Mapping[str, str],
    headers_of: Callable[[Message], Iterable[Any] | None],
) -> list[Record]:
    # A message without an error has them all; the library's types allow for the others.
    return [
        Record(
            topic := cast("str", message.topic()),
            cast("int", message.partition()),
            cast("int", message.offset()),
            message.key(),
            message.value(),
            tuple(headers or ()),
            message.timestamp()[1],
            topic_ids.get(topic),
        )
        for message, headers in zip(messages, map(headers_of, messages), strict=True)
    ]


def _readable(message: Message) -> Headers:
    """A message's headers; where the name of one is not UTF-8, `NOT_UTF8` stands for it.

    The client raises once and keeps the list that it has made. In that list, a header whose name it could not decode
    is a tuple without a first item. Such a tuple must not be indexed or unpacked, but the collector can say what it
    holds.
    """
    with suppress(*_NAME_NOT_UTF8):
        _ASK(message)
    return tuple(
        header if len(held := gc.get_referents(header)) == _NAME_AND_VALUE else (NOT_UTF8, held[0])
        for header in cast("list[tuple[str, bytes | None]]", _ASK(message) or [])
    )
