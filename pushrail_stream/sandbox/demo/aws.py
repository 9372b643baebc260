"""The stand-in for AWS as seen from outside: its process, its switch for IAM, and clients that reach nothing else."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, final
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from pushrail_stream.errors import OperatorError

_MODULE: Final = "pushrail_stream.sandbox.demo.moto_server"
_START_SECS: Final = 30.0
_STOP_SECS: Final = 5.0
_CALL_SECS: Final = 60.0
_OK: Final = 200
_NOWHERE: Final = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
"""Keeps AWS libraries from finding anybody's real account."""


class Credentials(NamedTuple):
    """Keys to an account of the stand-in: worth nothing anywhere else."""

    access_key_id: str
    secret: str
    token: str | None = None


@final
class StandIn:
    """A running moto, reached at ``url``."""

    def __init__(self, url: str, process: asyncio.subprocess.Process) -> None:
        self.url: Final = url
        self._process = process
        self._session = Session()

    @classmethod
    @asynccontextmanager
    async def start(cls, log: Path) -> AsyncIterator[StandIn]:
        """A moto of our own until the block ends; what it writes to stderr goes to ``log``. Raises `OperatorError`."""
        with log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", _MODULE),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=_clean_environment() | _NOWHERE,
                start_new_session=True,  # Ctrl-C is ours to handle: it must not end AWS before the worker
            )
        try:
            stand_in = cls(await _announced_url(process, log), process)
            stand_in.enforce_iam(False)
            yield stand_in
        finally:
            await _end(process)

    @property
    def exit_code(self) -> int | None:
        """None while it runs, as it should."""
        return self._process.returncode

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def enforce_iam(self, on: bool) -> None:  # noqa: FBT001 - a switch
        """Check signatures, policies and trust from now on, or nothing at all."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_CALL_SECS)
        try:
            connection.request("POST", "/moto-api/reset-auth", "0" if on else "inf", {"Content-Type": "text/plain"})
            status = connection.getresponse().status
        except OSError as error:
            raise OperatorError(f"the stand-in for AWS does not answer: {error}") from error
        finally:
            connection.close()
        if status != _OK:
            raise OperatorError(f"the stand-in for AWS refused to switch IAM: HTTP {status}")

    def client(self, service: str, region: str, credentials: Credentials) -> Any:
        """A stock botocore client of this service, of the stand-in alone."""
        return self._session.create_client(
            service,
            region_name=region,
            endpoint_url=self.url,
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret,
            aws_session_token=credentials.token,
            config=Config(
                retries={"mode": "standard", "max_attempts": 2}, read_timeout=_CALL_SECS, max_pool_connections=4
            ),
        )


@contextmanager
def asking() -> Iterator[None]:
    """Turn what a client raises into a sentence: nothing that is asked of the stand-in may be refused."""
    try:
        yield
    except (BotoCoreError, ClientError, OSError) as error:
        raise OperatorError(f"the stand-in for AWS does not do what it should: {error}") from error


@contextmanager
def isolated_environment() -> Iterator[None]:
    """Until the block ends no AWS library in this process finds an account, and 127.0.0.1 is reached without proxy."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= _NOWHERE
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))
    try:
        yield
    finally:
        for name in [name for name in os.environ if name not in before]:
            del os.environ[name]
        os.environ |= before


def use_as_own(credentials: Credentials) -> dict[str, str]:
    """Give this process base credentials, the ones it calls AssumeRole with; the variables, for other processes."""
    variables = {"AWS_ACCESS_KEY_ID": credentials.access_key_id, "AWS_SECRET_ACCESS_KEY": credentials.secret}
    os.environ |= variables
    return variables


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}


async def _announced_url(process: asyncio.subprocess.Process, log: Path) -> str:
    """The address it announces. Raises `OperatorError` when it ends or keeps silent instead."""
    if process.stdout is None:
        raise TypeError("its standard output is a pipe")
    line = b""
    with suppress(TimeoutError):
        line = await asyncio.wait_for(process.stdout.readline(), _START_SECS)
    try:
        return str(json.loads(line)["url"])
    except ValueError:
        raise OperatorError(f"the stand-in for AWS (moto) did not start: {_last_line(log)}") from None


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


async def _end(process: asyncio.subprocess.Process) -> None:
    """End exactly this process, gently first; it has ended when this returns."""
    if process.stdin is not None:
        process.stdin.close()
    for end in (process.terminate, process.kill):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                end()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_SECS)
