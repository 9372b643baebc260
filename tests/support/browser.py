"""A real browser, driven over its DevTools protocol: pages run no script, so a page cannot measure itself."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final, final

import aiohttp

from tests.support.patience import PATIENCE_SECS
from tests.support.tools import needed_tool

_FLAGS: Final = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
_OVERFLOWING: Final = """
[...document.querySelectorAll('body, body *')]
    .filter(one => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display != 'inline'
        || one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .map(one => `${one.tagName} ${one.textContent.slice(0, 40)}`)
"""
"""The elements that are wider than their place, or reach beyond the screen, in JavaScript."""


@final
class Browser:
    """One tab of a browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)
        self._session: str | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, home: Path) -> AsyncIterator[Browser]:
        """A browser with its profile in ``home``; the test is skipped when there is none (it fails in CI)."""
        program = needed_tool("chromium", "apt-get install chromium")
        process = await asyncio.create_subprocess_exec(
            *(program, *_FLAGS, "--remote-debugging-port=0", f"--user-data-dir={home / 'profile'}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        try:
            async with asyncio.timeout(PATIENCE_SECS), aiohttp.ClientSession() as session:
                line = b""
                while not line.startswith(b"DevTools listening on "):
                    line = await process.stderr.readline()
                    assert line, "the browser has ended"
                async with session.ws_connect(line.decode().split()[-1], max_msg_size=0) as socket:
                    browser = cls(socket)
                    target = await browser._ask("Target.createTarget", url="about:blank")
                    attached = await browser._ask("Target.attachToTarget", flatten=True, **target)
                    browser._session = attached["sessionId"]
                    yield browser
        finally:
            process.kill()
            await process.communicate()

    async def show(self, url: str, width: int, height: int = 1_000) -> None:
        """Load a page in a window of these pixels."""
        await self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < height,
        )  # fmt: skip
        await self._ask("Page.enable")
        await self._ask("Page.navigate", url=url)
        loaded = f"complete{url}"
        while await self.evaluate("document.readyState + location.href") != loaded:  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.05)

    async def evaluate(self, script: str) -> Any:
        """The value of JavaScript in the page."""
        answer = await self._ask("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    async def overflowing(self) -> list[str]:
        """The elements of which something is off-screen."""
        widths = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        scroll, client = await self.evaluate(widths)
        found: list[str] = await self.evaluate(_OVERFLOWING)
        return found if scroll <= client else [f"the page: {scroll} of {client} pixels", *found]

    async def screenshot(self) -> bytes:
        """The whole page as PNG."""
        answer = await self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    async def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        request: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(request | ({"sessionId": self._session} if self._session else {}))
        while True:
            answer = await self._socket.receive_json()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
