"""The checks of a diagnosis that need no broker: settings, AWS, keyring, documents, destinations and ports."""

from __future__ import annotations

import asyncio
import errno
import http.client
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from pushrail_stream.core.destination_state import severity
from pushrail_stream.core.event import VENDOR_HEADER
from pushrail_stream.core.text import format_rfc3339, safe_message
from pushrail_stream.documents import open_keyring
from pushrail_stream.eventbridge.clock import MAX_SKEW, aws_time
from pushrail_stream.eventbridge.error_codes import CallFailed
from pushrail_stream.eventbridge.own_identity import UnknownIdentity, own_account
from pushrail_stream.operations.destination_health import read_health
from pushrail_stream.operations.destinations import load_documents
from pushrail_stream.operations.findings import Finding, Installation, NotKnownError, State
from pushrail_stream.operations.sealing_keys import is_keyring_exposed
from pushrail_stream.operations.topic_reader import Progress
from pushrail_stream.settings.eventbridge import needs_our_credentials

_MAX_DOCUMENTS: Final = 10
"""Documents whose problems are shown one by one: more would fill the page."""
_NOTED_SKEW: Final = timedelta(seconds=30)
"""Difference from which a clock is a warning: NTP keeps it below a second, so NTP does not run here."""
_ASK_SECS: Final = 3.0
"""Longest wait for a program on this machine that listens on a port of ours, in seconds."""


def check_settings(installation: Installation) -> Iterator[Finding]:
    """The settings' file, and whether events without a vendor can be delivered."""
    loaded = installation.loaded
    variables = sum(origin != str(loaded.path) for origin in loaded.origins.values())
    yield Finding("settings", "ok", f"file: {loaded.path or 'none'}; variables: {variables}")
    if loaded.settings.vendor is None:
        found = f"vendor is not set: an event without the header {VENDOR_HEADER} becomes a dead letter"
        yield Finding("settings", "warning", found, "set vendor, or have every producer write the header")


def check_identity(installation: Installation) -> Iterator[Finding]:
    """Our own identity, as STS tells it. Without a role to assume, no credentials are needed."""
    settings = installation.settings
    try:
        ourselves = asyncio.run(own_account(settings.sts, settings.eventbridge))
    except UnknownIdentity as error:
        needed = _needs_credentials(installation)
        found = f"{error}{'' if needed else ' (no destination and no key needs them)'}"
        remedy = "give the workers a role of their host or pod, AWS_PROFILE, or AWS_ACCESS_KEY_ID with its secret"
        yield Finding("aws", "problem" if needed else "warning", found, remedy if needed else "")
    else:
        yield Finding("aws", "ok", f"{safe_message(ourselves.arn)}, account {ourselves.account}")


def _needs_credentials(installation: Installation) -> bool:
    if (installation.settings.secrets.keyring or "").startswith("aws-kms:"):
        return True
    try:
        return any(map(needs_our_credentials, installation.documents().catalog))
    except NotKnownError:
        return True


def check_clock(installation: Installation) -> Iterator[Finding]:
    """Whether AWS takes signatures with our time."""
    begin = datetime.now(UTC)
    theirs = asyncio.run(aws_time(installation.settings.sts, installation.settings.eventbridge))
    if theirs is None or isinstance(theirs, CallFailed):
        why = "STS's answer has no date" if theirs is None else f"STS: {theirs.code}: {theirs.message}"
        yield Finding("clock", "unknown", f"not known: {why}")
        return
    skew = max(begin - theirs - timedelta(seconds=1), theirs - datetime.now(UTC), timedelta())
    found = f"our clock and that of STS differ by {skew.total_seconds():.0f} s"
    if skew < _NOTED_SKEW:
        yield Finding("clock", "ok", found)
        return
    effect = f"; AWS refuses signatures from {MAX_SKEW.total_seconds():.0f} s on"
    yield Finding("clock", "problem" if skew >= MAX_SKEW else "warning", found + effect, "let NTP set the clock")


def check_keyring(installation: Installation) -> Iterator[Finding]:
    """Whether the keyring can be read, and opens every sealed secret. Raises `UsageError`."""
    settings = installation.settings
    keyring = open_keyring(settings, installation.environ)
    if keyring is None:
        yield Finding("keyring", "ok", "none is set (secrets.keyring)")
    elif is_keyring_exposed(settings):
        found = f"other users may read or write {settings.secrets.keyring}"
        yield Finding("keyring", "warning", found, f"chmod 600 {settings.secrets.keyring}")
    sealed, opened = installation.documents(), load_documents(settings)
    before = {*sealed.refusals, *sealed.caveats}
    shut = [str(one) for one in (*opened.refusals, *opened.caveats) if one not in before]
    yield from _some(
        "keyring", "problem", shut, "set the keyring that sealed it, or `pushrail-stream destinations seal` it again"
    )
    if keyring is not None and not shut:
        yield Finding("keyring", "ok", f"every sealed secret opens; primary key {keyring.primary}")


def check_documents(installation: Installation) -> Iterator[Finding]:
    """Whether all documents are in use. Raises `OperatorError`."""
    documents = installation.read.result()
    remedy = "correct the document (`pushrail-stream destinations validate`)"
    yield from _some("documents", "problem", [str(one) for one in documents.refusals], remedy)
    yield from _some("documents", "warning", [str(one) for one in documents.caveats], "")
    count = len(documents.catalog)
    if count:
        yield Finding("documents", "ok", f"destinations in use: {count}")
    elif not documents.refusals:
        where = "the topic" if installation.settings.registry.topic else installation.settings.registry.path
        yield Finding(
            "documents",
            "warning",
            f"no document in {where}: no event is delivered",
            "`pushrail-stream destinations onboard`",
        )


def _some(check: str, state: State, found: list[str], remedy: str) -> Iterator[Finding]:
    for one in found[:_MAX_DOCUMENTS]:
        yield Finding(check, state, one, remedy)
    if len(found) > _MAX_DOCUMENTS:
        yield Finding(
            check, state, f"{len(found) - _MAX_DOCUMENTS} documents more", "`pushrail-stream destinations validate`"
        )


def check_destinations(installation: Installation) -> Iterator[Finding]:
    """The state of each destination as workers see it now, else by the delivery log."""
    installation.kafka_with(installation.settings.topics.attempts)
    ids = {one.id for one in installation.documents().catalog if one.enabled}
    health = read_health(installation.settings, _Silent())
    known = {name: one for name, one in health.items() if name in ids}
    for name, (state, code, since_ms, *_) in sorted(known.items(), key=lambda item: -severity(item[1].state)):
        if state != "ok":
            since = "" if since_ms is None else f" since {format_rfc3339(since_ms)}"
            found = f"{name}: {state}{since} ({code or 'no code'})"
            remedy = f"`pushrail-stream destinations test {name}`, `pushrail-stream attempts --destination {name}`"
            is_bad = severity(state) >= severity("blocked")
            yield Finding("destinations", "problem" if is_bad else "warning", found, remedy)
    good = sum(one.state == "ok" for one in known.values())
    yield Finding("destinations", "ok", f"ok: {good}; without attempts in the last hour: {len(ids - set(known))}")


class _Silent(Progress):
    extra = ""

    def begin(self, *_: object, **__: object) -> None:
        """Show nothing."""

    at = note = begin


def check_ports(installation: Installation) -> Iterator[Finding]:
    """Whether the ports are free here, or one of our programs listens on them."""
    settings = installation.settings
    yield _port("http", settings.http.host, settings.http.port, "/livez")
    yield _port("ingest", settings.ingest.host, settings.ingest.port, "/openapi.json")


def _port(section: str, host: str, port: int, path: str) -> Finding:
    if port == 0:
        return Finding("ports", "ok", f"{section}.port: the system chooses it")
    where = f"{section}.port {port} of {host}"
    try:
        with socket.create_server((host, port)):
            return Finding("ports", "ok", f"{where}: free")
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return Finding(
                "ports", "problem", f"{where}: {error.strerror or error}", f"correct {section}.host or .port"
            )
    if _is_ours("127.0.0.1" if host in {"0.0.0.0", ""} else host, port, path):
        return Finding("ports", "ok", f"{where}: served by pushrail-stream")
    return Finding("ports", "problem", f"{where}: another program listens", f"end it, or set another {section}.port")


def _is_ours(host: str, port: int, path: str) -> bool:
    door = http.client.HTTPConnection(host, port, timeout=_ASK_SECS)
    try:
        door.request("GET", path)
        reply = door.getresponse()
        return reply.headers.get("Server") == "pushrail-stream" or b"Pushrail Stream" in reply.read(1000)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        door.close()
