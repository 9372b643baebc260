"""Records taken from a consumer in chunks that memory can bear, even if the records are large."""

from __future__ import annotations

from typing import Final, final

from confluent_kafka import Consumer, Message

_FIRST_STEP: Final = 16
"""Records asked for before their size is known. The next steps double: five calls make a chunk of 500 small ones."""


@final
class Chunks:
    """Takes at most ``records`` at once, and fewer when they are large: about ``size`` bytes.

    The client copies each record that it hands over. Its queue may hold hundreds of megabytes, because one small batch
    can decompress to many times its size.
    """

    def __init__(self, records: int, size: int) -> None:
        self._records = records
        self._size = size

    def take(self, consumer: Consumer, wait_secs: float) -> list[Message]:
        """The messages that are there, errors included; waits up to ``wait_secs`` for the first."""
        # poll() and then consume(): consume() alone waits its whole time-out.
        first = consumer.poll(wait_secs)
        if first is None:
            return []
        messages, size, step = [first], len(first), _FIRST_STEP
        while (room := self._records - len(messages)) > 0 and size < self._size:
            fitting = (self._size - size) * len(messages) // max(1, size)
            count = max(1, min(step, room, fitting))
            more = consumer.consume(count, 0)
            messages += more
            size += sum(map(len, more))
            if len(more) < count:
                break
            step *= 2
        return messages
