from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from pushrail_stream.eventbridge.http1.errors import ClientConnectorDNSError
from pushrail_stream.eventbridge.http1.server import AddressBook, Server
from tests.support.virtual_time import in_virtual_time, virtual_loop

BUS = Server.of("https://bus.example/")


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("https://bus.example", "bus.example", 443, "/", "bus.example"),
        ("http://Bus.example:80/", "bus.example", 80, "/", "bus.example"),
        ("https://bus.example:8443/a b?c=d", "bus.example", 8443, "/a%20b?c=d", "bus.example:8443"),
        ("http://127.0.0.1:4566/a%20b~c", "127.0.0.1", 4566, "/a%20b~c", "127.0.0.1:4566"),
        ("http://[::1]:4566/", "::1", 4566, "/", "[::1]:4566"),
    ],
)
def test_a_url_has_parts(url: str, host: str, port: int, path: str, authority: str) -> None:
    server = Server.of(url)
    assert server == Server(url, url.startswith("https"), host, port, path)
    assert server.authority == authority


@pytest.mark.parametrize("url", ["ftp://bus.example/", "https:///", "bus.example", "http://bus:port/"])
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"is no address of an HTTP server|Port could not be cast"):
        Server.of(url)


class Names:
    """A name service in the place of the loop's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked = 0
        self.secs = 1.0
        monkeypatch.setattr(virtual_loop(), "getaddrinfo", self._answer)

    async def _answer(self, host: str, port: int, **_: Any) -> list[Any]:
        assert (host, port) == ("bus.example", 443)
        self.asked += 1
        await asyncio.sleep(self.secs)
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


async def first_of(book: AddressBook) -> str:
    address: str = (await book.find())[0][4][0]
    return address


@in_virtual_time
async def test_addresses_are_looked_up_anew_after_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    names, book = Names(monkeypatch, ["10.0.0.1"]), AddressBook(BUS)
    assert await first_of(book) == "10.0.0.1"
    names.addresses = ["10.0.0.2"]
    await asyncio.sleep(9.9)
    assert await first_of(book) == "10.0.0.1"
    await asyncio.sleep(0.1)
    assert await first_of(book) == "10.0.0.2"
    assert names.asked == 2


@in_virtual_time
async def test_connections_spread_over_the_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, ["10.0.0.1", "10.0.0.2", "10.0.0.3"])
    book = AddressBook(BUS)
    assert {await first_of(book) for _ in range(3)} == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


@in_virtual_time
async def test_callers_share_one_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    names, book = Names(monkeypatch, ["10.0.0.1"]), AddressBook(BUS)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(book.find()) for _ in range(5)]
        await asyncio.sleep(0.5)
        running[0].cancel()
    assert sum(not task.cancelled() for task in running) == 4
    assert names.asked == 2  # that of the cancelled caller, and one for the others


@in_virtual_time
async def test_a_failed_look_up_is_shared_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    names, book = Names(monkeypatch, []), AddressBook(BUS)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(asyncio.wait([tasks.create_task(failure(book))])) for _ in range(5)]
    assert len(running) == 5
    assert (names.asked, virtual_loop().elapsed) == (1, 1.0)
    names.addresses = ["10.0.0.1"]
    assert await first_of(book) == "10.0.0.1"


async def failure(book: AddressBook) -> None:
    with pytest.raises(ClientConnectorDNSError, match=r"bus.example:443 ssl:default \[Name or service not known\]"):
        await book.find()


@pytest.mark.parametrize(
    ("host", "flags"),
    [
        ("[::1]", socket.AI_NUMERICHOST),
        ("127.0.0.1", socket.AI_NUMERICHOST),
        ("bus.example", socket.AI_ADDRCONFIG),
    ],
)
@in_virtual_time
async def test_an_address_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, host: str, flags: int) -> None:
    """A name has only addresses that this machine has routes for; the loopback's do not count as routes."""
    asked: list[int] = []

    async def answer(host: str, port: int, *, flags: int, **_: Any) -> list[Any]:
        asked.append(flags)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    monkeypatch.setattr(virtual_loop(), "getaddrinfo", answer)
    await AddressBook(Server.of(f"http://{host}:4566/")).find()
    assert asked == [flags]
