"""Connections to real servers of the tests, with TLS, on each kind of loop. They are made, kept, and leave nothing."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import psutil
import pytest

from pushrail_stream.eventbridge.http1.connection import Connection, Limits
from pushrail_stream.eventbridge.http1.connections import MAX_CONNECTING, Connections
from pushrail_stream.eventbridge.http1.errors import (
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientOSError,
    ClientPayloadError,
    ConnectionTimeoutError,
    HttpError,
    ServerDisconnectedError,
    SocketTimeoutError,
)
from pushrail_stream.eventbridge.http1.server import Server
from tests.support.http_peer import PATIENT, Client, Peer, trusting, until
from tests.support.loops import on_every_loop

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
SOON_SECS = 0.1
"""A time-out that has to be reached."""
LONG = b"x" * 5_000_000
"""More than the kernel's buffers take."""


async def answer_all(client: Client) -> None:
    while True:
        await client.request()
        await client.send(OK)


async def say_nothing(client: Client) -> None:
    await client.reader.read()


def sockets() -> int:
    return len(psutil.Process().net_connections())


@asynccontextmanager
async def deaf() -> AsyncIterator[Server]:
    """A server with TLS that takes connections and says nothing, not even the handshake."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield Server.of(f"https://127.0.0.1:{listening.getsockname()[1]}/")


@on_every_loop
async def test_one_connection_carries_request_after_request() -> None:
    heads: list[bytes] = []

    async def talk(client: Client) -> None:
        while True:
            heads.append(await client.request())
            await client.send(OK)

    async with Peer.serve(talk) as peer, peer.connections() as connections:
        for _ in range(10):
            reply = await connections.post({"X-One": "1"}, b"body")
            assert reply == (200, {b"content-length": b"2"}, b"hi")
        assert len(peer.clients) == 1
    host = peer.server.name.encode()
    assert set(heads) == {
        b"POST / HTTP/1.1\r\nHost: " + host + b"\r\nX-One: 1\r\nContent-Length: 4\r\nAccept: */*\r\n\r\nbody"
    }


@on_every_loop
async def test_requests_at_one_time_have_connections_of_their_own() -> None:
    async with Peer.serve(answer_all) as peer, peer.connections() as connections:
        for _ in range(3):
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(connections.post({}, b"")) for _ in range(40)]
            assert {task.result().status for task in running} == {200}
        assert len(peer.clients) == len(connections) == 40


@on_every_loop
async def test_a_burst_of_requests_shares_its_first_connections() -> None:
    async with Peer.serve(answer_all) as peer, peer.connections() as connections:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(connections.post({}, b"")) for _ in range(500)]
        assert {task.result().status for task in running} == {200}
        assert len(peer.clients) < 400
        await connections.post({}, b"")


@on_every_loop
async def test_few_connections_are_made_at_one_time() -> None:
    """The other requests have their turns when the first ones have failed."""
    async with deaf() as server:
        connections = Connections(server, PATIENT._replace(connect_secs=SOON_SECS), trusting())
        most = 0

        async def fail() -> None:
            nonlocal most
            with pytest.raises(ConnectionTimeoutError):
                await connections.post({}, b"")
            most = max(most, connections._connecting)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(2 * MAX_CONNECTING):
                tasks.create_task(fail())
        assert MAX_CONNECTING / 2 < most <= MAX_CONNECTING


@on_every_loop
async def test_a_request_that_never_has_its_turn_was_not_sent() -> None:
    async with deaf() as server:
        connections = Connections(server, PATIENT._replace(total_secs=SOON_SECS), trusting())
        connections._connecting = MAX_CONNECTING
        with pytest.raises(ConnectionTimeoutError):
            await connections.post({}, b"")


@on_every_loop
async def test_a_connection_that_comes_too_late_is_the_next_callers() -> None:
    async with Peer.serve(answer_all) as peer, peer.connections() as connections:
        await connections.post({}, b"")
        free, _ = connections._idle.popitem()
        connections._connecting = MAX_CONNECTING
        async with asyncio.TaskGroup() as tasks:
            first, second = [tasks.create_task(connections.post({}, b"")) for _ in range(2)]
            await asyncio.sleep(0)
            connections._give(free)
            first.cancel()
        assert first.cancelled()
        assert second.result().status == 200
        assert len(peer.clients) == 1


@on_every_loop
async def test_a_connection_that_ends_on_its_way_to_a_caller_is_not_used() -> None:
    async with Peer.serve(answer_all) as peer, peer.connections() as connections:
        await connections.post({}, b"")
        ending, _ = connections._idle.popitem()
        connections._connecting = MAX_CONNECTING
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(connections.post({}, b""))
            await asyncio.sleep(0)
            ending.close()
            connections._give(ending)
        assert waiting.result().status == 200
        assert len(peer.clients) == 2


@on_every_loop
async def test_an_idle_connection_ends() -> None:
    async with (
        Peer.serve(answer_all) as peer,
        peer.connections(PATIENT._replace(idle_secs=SOON_SECS)) as connections,
    ):
        await connections.post({}, b"")
        await until(lambda: not len(connections))
        assert await peer.clients[0].reader.read() == b""
        await connections.post({}, b"")
        assert len(peer.clients) == 2


@on_every_loop
async def test_a_kept_connection_that_the_server_closed_is_not_used() -> None:
    async def once(client: Client) -> None:
        await client.request()
        await client.send(OK)

    async with Peer.serve(once) as peer, peer.connections() as connections:
        for number in range(3):
            assert (await connections.post({}, b"")).content == b"hi"
            await until(lambda: not len(connections))
            assert len(peer.clients) == number + 1


@pytest.mark.parametrize("tls", [True, False])
@on_every_loop
async def test_a_kept_connection_that_is_ending_is_not_used(*, tls: bool) -> None:
    """The transport knows of its end a turn of the loop before the connection does."""

    async def talk(client: Client) -> None:
        await client.request()
        await client.send(OK)
        await told.wait()

    async with Peer.serve(talk, tls=tls) as peer, peer.connections() as connections:
        for number in range(5):
            told = asyncio.Event()
            assert (await connections.post({}, b"")).content == b"hi"
            (kept,) = connections._idle
            told.set()
            async with asyncio.timeout(PATIENT.total_secs):
                while len(connections) and not kept._transport.is_closing():  # noqa: ASYNC110 - there is no event for it
                    await asyncio.sleep(0)
            assert len(peer.clients) == number + 1


@on_every_loop
async def test_a_server_that_takes_half_a_request_gets_no_second_behind_it() -> None:
    async def talk(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        if len(peer.clients) == 1:
            client.stop_reading()
        await client.send(OK)
        await asyncio.sleep(PATIENT.total_secs)

    async with Peer.serve(talk, tls=False) as peer, peer.connections() as connections:
        assert (await connections.post({}, LONG)).content == b"hi"
        assert (await connections.post({}, b"")).content == b"hi"
        assert len(peer.clients) == 2


@on_every_loop
async def test_a_request_on_a_kept_connection_that_ends_is_not_repeated() -> None:
    """The server may have carried it out."""
    requests: list[bytes] = []

    async def once(client: Client) -> None:
        requests.append(await client.request())
        await client.send(OK)
        requests.append(await client.request())

    async with Peer.serve(once) as peer, peer.connections() as connections:
        await connections.post({}, b"first")
        with pytest.raises(ServerDisconnectedError):
            await connections.post({}, b"second")
        assert [request[-6:] for request in requests] == [b"\nfirst", b"second"]
        assert len(peer.clients) == 1
        await until(lambda: not len(connections))


@on_every_loop
async def test_bytes_without_a_request_answer_none() -> None:
    async def talk(client: Client) -> None:
        await client.request()
        await client.send(OK)
        await client.send(OK.replace(b"hi", b"no"))
        await say_nothing(client)

    async with Peer.serve(talk) as peer, peer.connections() as connections:
        for number in range(3):
            assert (await connections.post({}, b"")).content == b"hi"
            await until(lambda: not len(connections))
            assert len(peer.clients) == number + 1


@on_every_loop
async def test_a_cancelled_request_ends_its_connection() -> None:
    async with Peer.serve(say_nothing) as peer, peer.connections() as connections:
        request = asyncio.current_task()
        assert request is not None
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(connections.post({}, b""))
            await until(lambda: len(peer.clients) == 1 and len(connections) == 1)
            waiting.cancel()
        assert waiting.cancelled()
        await until(lambda: not len(connections))
        await until(peer.clients[0].reader.at_eof)


@on_every_loop
async def test_a_handshake_without_an_answer_is_a_connect_time_out() -> None:
    before = sockets()
    async with deaf() as server:
        connections = Connections(server, PATIENT._replace(connect_secs=SOON_SECS), trusting())
        with pytest.raises(ConnectionTimeoutError, match=f"^Connection timeout to host {server.url}$"):
            await connections.post({}, b"")
        await until(lambda: sockets() <= before + 1)
        await connections.close()


def in_memory() -> list[Connection]:
    """The connections of this loop. The closed loop of another test may keep some for a while."""
    gc.collect()
    loop = asyncio.get_running_loop()
    return [found for found in gc.get_objects() if type(found) is Connection and found._loop is loop]


@on_every_loop
async def test_a_handshake_that_was_given_up_does_not_stay_in_memory() -> None:
    """A loop keeps it until its own time-out, which is a minute unless it is told another."""
    dice = random.Random(1)
    async with deaf() as server:
        connections = Connections(server, PATIENT._replace(connect_secs=1), trusting())

        async def give_up() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(dice.uniform(0, 0.02)):
                    await connections.post({}, b"")

        for _ in range(10):
            async with asyncio.TaskGroup() as tasks:
                for _ in range(20):
                    tasks.create_task(give_up())
        async with asyncio.timeout(30):
            await until(lambda: not in_memory())


@on_every_loop
async def test_the_whole_time_bounds_connecting_too() -> None:
    before = sockets()
    async with deaf() as server:
        connections = Connections(server, PATIENT._replace(total_secs=SOON_SECS), trusting())
        with pytest.raises(TimeoutError):
            await connections.post({}, b"")
        await until(lambda: sockets() <= before + 1)


@on_every_loop
async def test_a_request_that_is_cancelled_while_connecting_leaves_nothing() -> None:
    before = sockets()
    async with deaf() as server:
        connections = Connections(server, PATIENT, trusting())
        async with asyncio.TaskGroup() as tasks:
            connecting = [tasks.create_task(connections.post({}, b"")) for _ in range(20)]
            await until(lambda: sockets() > before + 20)
            for task in connecting:
                task.cancel()
        await until(lambda: sockets() <= before + 1)
        await connections.close()


@on_every_loop
async def test_a_refused_connection_is_a_failure() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(ClientConnectorError, match=r"Cannot connect to host 127\.0\.0\.1:"):
            await Connections(Server.of(url), PATIENT, trusting()).post({}, b"")


@on_every_loop
async def test_a_certificate_must_be_trusted() -> None:
    async with Peer.serve(answer_all) as peer:
        connections = Connections(peer.server, PATIENT, ssl.create_default_context())
        with pytest.raises(ClientConnectorCertificateError, match="CERTIFICATE_VERIFY_FAILED"):
            await connections.post({}, b"")
        assert len(connections) == 0


@on_every_loop
async def test_a_certificate_must_name_the_server() -> None:
    async with Peer.serve(answer_all) as peer:
        other = Server.of(peer.server.url.replace("127.0.0.1", "127.0.0.2"))
        connections = Connections(other, PATIENT, trusting())
        connections._addresses._found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (peer.server.host, peer.server.port))
        ]
        connections._addresses._found_at = float("inf")
        with pytest.raises(ClientConnectorCertificateError, match=r"127\.0\.0\.2"):
            await connections.post({}, b"")


@on_every_loop
async def test_a_server_without_tls_fails_the_handshake() -> None:
    async def talk(client: Client) -> None:
        await client.reader.read(1)
        await client.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await say_nothing(client)

    async with Peer.serve(talk, tls=False) as peer:
        server = Server.of(peer.server.url.replace("http:", "https:"))
        with pytest.raises(ClientConnectorSSLError):
            await Connections(server, PATIENT, trusting()).post({}, b"")


@on_every_loop
async def test_the_first_address_that_answers_is_used() -> None:
    async with Peer.serve(answer_all) as peer, peer.connections() as connections:
        with socket.socket() as silent, socket.socket() as first, socket.socket() as second, socket.socket() as unused:
            silent.bind(("127.0.0.1", 0))
            silent.listen(0)
            for filling in (first, second):  # the queue of connections is full: the next one waits for ever
                filling.setblocking(False)
                filling.connect_ex(silent.getsockname())
            unused.bind(("127.0.0.1", 0))
            there = (peer.server.host, peer.server.port)
            for dead in (unused.getsockname(), silent.getsockname()):
                found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (there, dead)]
                connections._addresses._found = list(found)
                connections._addresses._found_at = float("inf")
                async with asyncio.TaskGroup() as tasks:  # each of the two begins with another address
                    running = [tasks.create_task(connections.post({}, b"")) for _ in range(2)]
                assert {task.result().status for task in running} == {200}


@on_every_loop
async def test_an_address_that_fails_the_handshake_is_left_for_the_next() -> None:
    async def close_at_once(client: Client) -> None:
        client.writer.close()

    async with (
        Peer.serve(answer_all) as peer,
        Peer.serve(close_at_once, tls=False) as broken,
        peer.connections() as connections,
    ):
        there, bad = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (one.server.host, one.server.port)) for one in (peer, broken)
        ]
        connections._addresses._found = [there, bad]
        connections._addresses._found_at = float("inf")
        async with asyncio.TaskGroup() as tasks:  # each of the two begins with another address
            running = [tasks.create_task(connections.post({}, b"")) for _ in range(2)]
        assert {task.result().status for task in running} == {200}
        assert (len(peer.clients), len(broken.clients)) == (2, 1)
        connections._addresses._found = [bad, bad]
        with pytest.raises(ClientConnectorError):
            await connections._connect(asyncio.get_running_loop().time() + PATIENT.total_secs)
        assert len(broken.clients) == 3


@on_every_loop
async def test_a_name_may_end_with_a_dot() -> None:
    async with Peer.serve(answer_all) as peer:
        server = Server.of(f"https://localhost.:{peer.server.port}/")
        connections = Connections(server, PATIENT, trusting())
        connections._addresses._found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (peer.server.host, peer.server.port))
        ]
        connections._addresses._found_at = float("inf")
        assert (await connections.post({}, b"")).content == b"hi"
        await connections.close()


@on_every_loop
async def test_a_server_that_takes_a_long_request_slowly_gets_it_whole() -> None:
    async def talk(client: Client) -> None:
        await asyncio.sleep(0.05)
        assert (await client.request())[-len(LONG) :] == LONG
        await client.send(OK)
        await answer_all(client)

    async with Peer.serve(talk) as peer, peer.connections() as connections:
        assert (await connections.post({}, LONG)).content == b"hi"
        assert (await connections.post({}, b"")).content == b"hi"
        assert len(peer.clients) == 1


@on_every_loop
async def test_a_server_that_stops_taking_a_request_is_a_time_out() -> None:
    async def talk(client: Client) -> None:
        client.stop_reading()
        await asyncio.sleep(PATIENT.total_secs)

    async with Peer.serve(talk) as peer, peer.connections(PATIENT._replace(read_secs=SOON_SECS)) as connections:
        with pytest.raises(SocketTimeoutError):
            await connections.post({}, LONG)
        await until(lambda: not len(connections))


@on_every_loop
async def test_a_refusal_of_half_a_request_is_read() -> None:
    async def talk(client: Client) -> None:
        await client.reader.readuntil(b"\r\n\r\n")
        client.stop_reading()
        await client.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await asyncio.sleep(PATIENT.total_secs)

    async with Peer.serve(talk) as peer, peer.connections() as connections:
        assert (await connections.post({}, LONG)).status == 413
        await until(lambda: not len(connections))


@on_every_loop
async def test_a_reply_may_end_with_the_connection() -> None:
    async def talk(client: Client) -> None:
        await client.request()
        await client.send(b"HTTP/1.1 200 OK\r\n\r\n", b"h", b"i")

    async with Peer.serve(talk) as peer, peer.connections() as connections:
        assert [(await connections.post({}, b"")).content for _ in range(2)] == [b"hi", b"hi"]
        assert len(peer.clients) == 2


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"])
@on_every_loop
async def test_a_reset_is_a_failure(start: bytes) -> None:
    async def talk(client: Client) -> None:
        await client.request()
        await client.send(start)
        await asyncio.sleep(0.02)
        client.reset()

    async with Peer.serve(talk) as peer, peer.connections() as connections:
        with pytest.raises(ClientPayloadError if start else ClientOSError):
            await connections.post({}, b"")
        await until(lambda: not len(connections))


@on_every_loop
async def test_a_peer_that_is_gone_without_a_word_is_a_time_out() -> None:
    async def talk(client: Client) -> None:
        await client.request()
        await client.send(OK)
        await say_nothing(client)

    async with (
        Peer.serve(talk) as peer,
        peer.connections(PATIENT._replace(read_secs=SOON_SECS)) as connections,
    ):
        await connections.post({}, b"")
        with pytest.raises(SocketTimeoutError):
            await connections.post({}, b"")
        await until(lambda: not len(connections))
        assert len(peer.clients) == 1


@on_every_loop
async def test_a_server_that_closes_at_once_is_a_failure() -> None:
    async def talk(client: Client) -> None:
        client.writer.close()

    async with Peer.serve(talk) as peer, peer.connections() as connections:
        for _ in range(20):
            with pytest.raises((ServerDisconnectedError, ClientOSError)):
                await connections.post({}, b"")
        await until(lambda: not len(connections))


@on_every_loop
async def test_closing_ends_requests_and_leaves_nothing() -> None:
    async with Peer.serve(say_nothing) as peer:
        connections = Connections(peer.server, PATIENT, trusting())
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(outcome(connections)) for _ in range(5)]
            await until(lambda: len(connections) == 5)
            await connections.close()
            assert len(connections) == 0
        assert {task.result() for task in waiting} == {"ServerDisconnectedError"}
        await connections.close()


@on_every_loop
async def test_a_connection_that_is_made_while_closing_does_not_stay() -> None:
    before = sockets()
    async with Peer.serve(answer_all) as peer:
        connections = Connections(peer.server, PATIENT, trusting())
        async with asyncio.TaskGroup() as tasks:
            connecting = tasks.create_task(outcome(connections))
            await asyncio.sleep(0)
            await connections.close()
        assert connecting.result() == "ServerDisconnectedError"
        assert len(connections) == 0
    await until(lambda: sockets() <= before)


async def outcome(connections: Connections, body: bytes = b"") -> str:
    """The status of a reply, or the kind of a failure."""
    try:
        return str((await connections.post({}, body)).status)
    except (HttpError, TimeoutError) as error:
        return type(error).__name__


async def stall(client: Client) -> None:
    await client.send(OK[:-1])
    await say_nothing(client)


async def drip(client: Client) -> None:
    await client.send(*(OK[index : index + 1] for index in range(len(OK))))


async def reset(client: Client) -> None:
    client.reset()


async def end_early(client: Client) -> None:
    await client.send(OK[:-1])
    client.writer.close()


async def say_more(client: Client) -> None:
    await client.send(OK + b"no HTTP")


async def say_no_http(client: Client) -> None:
    await client.send(b"no HTTP")


NAMES = {"SocketTimeoutError", "ClientPayloadError", "ClientResponseError", "ServerDisconnectedError"}
TROUBLES: list[Callable[[Client], Awaitable[None]]] = [stall, drip, reset, end_early, say_more, say_no_http]


@pytest.mark.parametrize("tls", [True, False], ids=["TLS", "no TLS"])
@on_every_loop
async def test_troubles_leave_no_socket_and_no_memory(*, tls: bool) -> None:
    dice = random.Random(1)

    async def talk(client: Client) -> None:
        while True:
            await client.request()
            if dice.random() < 0.5:
                await client.send(OK)
            else:
                await dice.choice(TROUBLES)(client)

    before = sockets()
    async with Peer.serve(talk, tls=tls) as peer:
        limits = Limits(PATIENT.connect_secs, SOON_SECS, PATIENT.total_secs, SOON_SECS, PATIENT.reply_bytes)
        async with peer.connections(limits) as connections:
            found: set[str] = set()
            for _ in range(10):
                async with asyncio.TaskGroup() as tasks:
                    running = [tasks.create_task(outcome(connections, b"body")) for _ in range(20)]
                found |= {task.result() for task in running}
            await until(lambda: not len(connections))
        assert {"200", "SocketTimeoutError", "ClientPayloadError", "ClientResponseError"} <= found
        assert found <= {"200", "ClientOSError", *NAMES}
    await until(lambda: sockets() <= before)
    assert not in_memory()
