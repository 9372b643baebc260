"""The HTTP server of ingest, and its readiness."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Final, Self, cast, final

import uvicorn

from pushrail_stream.errors import OperatorError
from pushrail_stream.files import max_open_files
from pushrail_stream.ingest.app import IngestApp
from pushrail_stream.ingest.limits import MAX_HEAD_BYTES
from pushrail_stream.ingest.protocol import BoundedProtocol, Bounds
from pushrail_stream.ports.kafka import EventProducer

MAX_CONNECTIONS: Final = 4_096
"""Connections served at once: far more than work at any moment, and few enough to bound their memory together."""
_FILES_FOR_OTHERS: Final = 4
"""A quarter of the files that this process may open is left for Kafka, logs and scrapes."""
_KEEP_ALIVE_SECS: Final = 60
_LOOK_SECS: Final = 2.0
_BACKLOG: Final = 2_048


@final
class IngestReadiness:
    """Whether events can be accepted: Kafka is asked every two seconds."""

    def __init__(self, producer: EventProducer) -> None:
        self._producer = producer
        self._problem = "Kafka has not been asked yet"
        self._stopping = False

    async def look(self) -> None:
        """Ask Kafka once. Raises `OperatorError` when nothing can ever be written again."""
        self._problem = await self._producer.check(_LOOK_SECS)

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECS)
            await self.look()

    def stop(self) -> None:
        """Report not ready from now on."""
        self._stopping = True

    def reasons(self) -> Sequence[str]:
        """The reasons why it is not ready; empty when it is."""
        return [*([self._problem] if self._problem else []), *(["stopping"] if self._stopping else [])]


class _Uvicorn(uvicorn.Server):
    """uvicorn's server without its signal handlers: the command line handles signals."""

    def capture_signals(self) -> Any:
        return nullcontext()


@final
class IngestServer:
    """Serves the application. Requests in progress at a stop are answered."""

    def __init__(self, ingest: IngestApp, door: socket.socket, secs: float, connections: int) -> None:
        self._door = door
        files = max_open_files()
        if files is not None:
            connections = min(connections, files - files // _FILES_FOR_OTHERS)
        bounds = Bounds(MAX_HEAD_BYTES, secs, connections)
        protocol = partial(BoundedProtocol, bounds=bounds, refused=ingest.refused)
        config = uvicorn.Config(
            ingest.app,
            loop="none",
            http=cast("type[asyncio.Protocol]", protocol),  # uvicorn only calls it
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the API key identifies the client, not its address
            timeout_keep_alive=_KEEP_ALIVE_SECS,
            # An open request may wait this long for the rest of its body, and as long again for Kafka.
            timeout_graceful_shutdown=round(2 * secs),
        )
        self._server = _Uvicorn(config)
        self.port: int = door.getsockname()[1]

    @classmethod
    @contextmanager
    def open(
        cls, ingest: IngestApp, host: str, port: int, *, timeout_secs: float, connections: int = MAX_CONNECTIONS
    ) -> Iterator[Self]:
        """A server that listens and does not answer yet. Raises `OperatorError` when the address cannot be used.

        ``timeout_secs``: longest time for a head to arrive, for a body, and for Kafka to acknowledge.
        """
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            door = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise OperatorError(
                f"ingest.host, ingest.port: {host}:{port} cannot be listened on: {error.strerror or error}"
            ) from error
        # Connections inherit this: an answer is two writes, and the second must not wait for an acknowledgement.
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with door:
            yield cls(ingest, door, timeout_secs, connections)

    def stop(self) -> None:
        """Accept no further requests, answer the open ones, and end."""
        self._server.should_exit = True

    async def run(self) -> None:
        await self._server.serve(sockets=[self._door])
