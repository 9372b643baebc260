from __future__ import annotations

import socket
from collections.abc import Iterator
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest

from tests.support.kafka.line import Line

ANSWER_SECS = 10.0


class Echo(StreamRequestHandler):
    """Sends each line back."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


@pytest.fixture
def line() -> Iterator[Line]:
    """A line to a server that sends each line back."""
    with ThreadingTCPServer(("127.0.0.1", 0), Echo) as server, Line() as line:
        server.daemon_threads = True
        line.target = server.server_address[1]
        serving = Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield line
        line.shut()
        server.shutdown()
        serving.join()


def connect(line: Line) -> socket.socket:
    return socket.create_connection(("127.0.0.1", line.port), ANSWER_SECS)


def answer(connection: socket.socket) -> bytes:
    """The answer; empty when the connection has closed."""
    try:
        connection.sendall(b"a\n")
        return connection.recv(100)
    except ConnectionError:
        return b""


def test_bytes_pass_both_ways(line: Line) -> None:
    with connect(line) as connection:
        assert [answer(connection), answer(connection)] == [b"a\n", b"a\n"]


def test_a_shut_line_closes_connections_until_it_opens(line: Line) -> None:
    with connect(line) as connection:
        assert answer(connection)
        line.shut()
        assert answer(connection) == b""
    with connect(line) as connection:
        assert answer(connection) == b""
    line.open()
    with connect(line) as connection:
        assert answer(connection)


def test_answers_are_lost_until_the_connections_close(line: Line) -> None:
    with connect(line) as connection:
        line.lose_answers()
        connection.sendall(b"a\n")
        while not line.lost_bytes:
            pass
        line.close_connections()
        assert connection.recv(100) == b""
    with connect(line) as connection:
        assert answer(connection)
    assert line.lost_bytes == len(b"a\n")


def test_a_line_without_a_server_closes_connections() -> None:
    with Line() as line, connect(line) as connection:
        assert answer(connection) == b""
