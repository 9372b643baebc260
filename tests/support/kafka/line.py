"""A way to a server that a test can shut, or on which answers get lost."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Thread
from typing import Final, Self, final

from tests.support.ports import free_port

_HOST: Final = "127.0.0.1"
_CHUNK_BYTES: Final = 65_536
"""Bytes passed on at once."""


@final
class Line:
    """Passes bytes between its own port and the server's. Use it in a ``with``."""

    def __init__(self) -> None:
        self.target = 0
        """The server's port. Connections that come before it is known are closed."""
        self.lost_bytes = 0
        """Bytes of answers that were thrown away."""
        self._is_shut = False
        self._loses_answers = False
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server((_HOST, free_port()))
        self.port: Final = int(self._listener.getsockname()[1])
        Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shut()
        with suppress(OSError):  # not every system knows it for a socket that listens
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def shut(self) -> None:
        """Close all connections, also those that will come."""
        self._is_shut = True
        self.close_connections()

    def open(self) -> None:
        """Undo `shut`."""
        self._is_shut = False

    def lose_answers(self) -> None:
        """Throw away the bytes that the server sends, until `close_connections`."""
        self.lost_bytes, self._loses_answers = 0, True

    def close_connections(self) -> None:
        """Close all connections; no answer is lost on later ones."""
        for connection in list(self._open):
            _end(connection)
        self._loses_answers = False

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with suppress(OSError):
                    self._pass_on(client)

    def _pass_on(self, client: socket.socket) -> None:
        if self._is_shut or not self.target:
            client.close()
            return
        try:
            server = socket.create_connection((_HOST, self.target))
        except OSError:
            client.close()
            raise
        self._open |= {client, server}
        Thread(target=self._pump, args=(client, server), daemon=True).start()
        Thread(target=self._pump, args=(server, client), kwargs={"is_answer": True}, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, *, is_answer: bool = False) -> None:
        with suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                if is_answer and self._loses_answers:
                    self.lost_bytes += len(chunk)
                else:
                    sink.sendall(chunk)
        _end(sink)
        self._open.discard(source)
        source.close()


def _end(connection: socket.socket) -> None:
    """End a connection: reads that wait on it return."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
