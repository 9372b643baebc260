"""The server before ingest, and whether it is ready."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Final, Self, cast, final

import uvicorn

from pushrail_stream.errors import OperatorError
from pushrail_stream.ingest.app import IngestApp
from pushrail_stream.ingest.limits import MAX_HEAD_BYTES
from pushrail_stream.ingest.protocol import BoundedProtocol, Bounds
from pushrail_stream.ports.kafka import EventProducer

MAX_CONNECTIONS: Final = 4_096
"""Far more than at work in any moment, and few enough that what each may take is little together."""
_FILES_FOR_OTHERS: Final = 4
"""One part in so many of the files that this process may open is for Kafka, logs and scrapes."""
_KEEP_ALIVE_SECS: Final = 60
_LOOK_SECS: Final = 2.0
_BACKLOG: Final = 2_048


@final
class IngestReadiness:
    """Whether events can be taken: Kafka is asked every two seconds."""

    def __init__(self, producer: EventProducer) -> None:
        self._producer = producer
        self._problem = "Kafka has not been asked yet"
        self._stopping = False

    async def look(self) -> None:
        """Ask Kafka once. Raises `OperatorError` when nothing can ever be written again."""
        self._problem = await self._producer.check(_LOOK_SECS)

    async def keep(self) -> None:
        """Ask again and again until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECS)
            await self.look()

    def stop(self) -> None:
        """What has come in is answered, and no more taken."""
        self._stopping = True

    def reasons(self) -> Sequence[str]:
        """Why it is not ready; empty when it is."""
        return [*([self._problem] if self._problem else []), *(["stopping"] if self._stopping else [])]


class _Uvicorn(uvicorn.Server):
    """Without signal handlers of its own: whoever starts the process stops it."""

    def capture_signals(self) -> Any:
        return nullcontext()


@final
class IngestServer:
    """Serves the application. What is in flight when it is stopped is answered."""

    def __init__(self, ingest: IngestApp, door: socket.socket, secs: float, connections: int) -> None:
        self._door = door
        bounds = Bounds(MAX_HEAD_BYTES, secs, _affordable(connections))
        protocol = partial(BoundedProtocol, bounds=bounds, refused=ingest.refused)
        config = uvicorn.Config(
            ingest.app,
            loop="none",
            http=cast("type[asyncio.Protocol]", protocol),  # it is called, and nothing else
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # who asks is told by the key, not by an address
            timeout_keep_alive=_KEEP_ALIVE_SECS,
            # What has come in may wait as long for the rest of its body, and as long again for Kafka.
            timeout_graceful_shutdown=round(2 * secs),
        )
        self._server = _Uvicorn(config)
        self.port: int = door.getsockname()[1]

    @classmethod
    @contextmanager
    def open(
        cls, ingest: IngestApp, host: str, port: int, *, timeout_secs: float, connections: int = MAX_CONNECTIONS
    ) -> Iterator[Self]:
        """A server that listens and does not answer yet. Raises `OperatorError` when the address cannot be had.

        ``timeout_secs``: how long a head may take to come, a body, and Kafka to acknowledge.
        """
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            door = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise OperatorError(
                f"ingest.host, ingest.port: {host}:{port} cannot be had: {error.strerror or error}"
            ) from error
        # Who is let in inherits this: an answer is two writes, and the second must not wait for the first to be seen.
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with door:
            yield cls(ingest, door, timeout_secs, connections)

    def stop(self) -> None:
        """Close the door, answer what has come in, and end."""
        self._server.should_exit = True

    async def run(self) -> None:
        """Answer requests until `stop`."""
        await self._server.serve(sockets=[self._door])


def _affordable(connections: int) -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return connections
    return min(connections, files - files // _FILES_FOR_OTHERS)
