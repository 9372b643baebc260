"""moto as an HTTP server in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection

from moto.server import ThreadedMotoServer


@contextmanager
def moto_server() -> Iterator[ThreadedMotoServer]:
    """Start a server without resources: all servers of a process share their state."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        with closing(HTTPConnection(*server.get_host_and_port())) as connection:
            connection.request("POST", "/moto-api/reset")
            assert connection.getresponse().status == HTTPStatus.OK
        yield server
    finally:
        server.stop()


def url_of(server: ThreadedMotoServer) -> str:
    """Return the server's address."""
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"
