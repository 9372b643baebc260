"""The ops server: ``/``, ``/metrics``, ``/livez`` and ``/readyz``, on the worker's own event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from pushrail_stream.errors import OperatorError
from pushrail_stream.observe.pages import POLICY
from pushrail_stream.settings.model import HttpSettings

Exposition = Callable[[str], tuple[bytes, str]]
"""The ``Accept`` header to body and content type."""
_UNREADY: Final = 503
LAST_SECS: Final = 1.0
"""Longest wait, at the end of a worker, for answers that are being sent, in seconds."""


@asynccontextmanager
async def serve_ops(
    http: HttpSettings,
    *,
    exposition: Exposition,
    unready: Callable[[], Sequence[str]],
    page: Callable[[bool], str] | None = None,
) -> AsyncIterator[int]:
    """Serve until the block ends, and give the port, which the system chooses for port 0.

    ``unready`` gives the reasons why the worker is not ready, none when it is; ``page`` the status page, for
    ``/?idle`` with True. Raises
    `OperatorError` when the address cannot be used.
    """
    application = _application(exposition, unready, page)
    runner = web.AppRunner(
        application, access_log=None, handle_signals=False, shutdown_timeout=LAST_SECS, lingering_time=LAST_SECS
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, http.host, http.port)
        try:
            await site.start()
        except OSError as error:
            raise OperatorError(
                f"http.host, http.port: {http.host}:{http.port} cannot be listened on: {error.strerror or error}"
            ) from error
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _application(
    exposition: Exposition, unready: Callable[[], Sequence[str]], page: Callable[[bool], str] | None
) -> web.Application:
    async def metrics(request: web.Request) -> web.Response:
        body, content_type = exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def livez(_request: web.Request) -> web.Response:
        return web.json_response({"live": True})  # an answer proves that the loop runs

    async def readyz(_request: web.Request) -> web.Response:
        reasons = list(unready())
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=_UNREADY if reasons else 200)

    async def status(request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
        if page is None:
            raise web.HTTPNotFound
        # The name of a file may hold bytes that are no UTF-8: Python's text has no encoding for them.
        body = page("idle" in request.query).encode("utf-8", "backslashreplace")
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)

    application = web.Application()
    routes = {"/": status, "/metrics": metrics, "/livez": livez, "/readyz": readyz}
    application.add_routes([web.get(path, answer) for path, answer in routes.items()])
    application.on_response_prepare.append(_without_versions)
    return application


async def _without_versions(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "pushrail-stream"  # not which releases of Python and aiohttp answer
