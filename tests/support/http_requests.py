"""The HTTP requests that a server of the tests has received."""

from __future__ import annotations

from collections.abc import Iterator


def take_requests(received: bytearray) -> Iterator[bytes]:
    """Remove the whole requests, and yield the head of each in lower case. All of them name their Content-Length."""
    while (end := received.find(b"\r\n\r\n")) >= 0:
        head = bytes(received[:end]).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(received) < end + 4 + length:
            return
        del received[: end + 4 + length]
        yield head
