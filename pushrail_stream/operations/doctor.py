"""A diagnosis of an installation: each check by itself, so that one that hangs or fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import as_completed
from contextlib import suppress
from typing import Final

from pushrail_stream.blocking import start_daemon_thread
from pushrail_stream.core.text import safe_message
from pushrail_stream.errors import OperatorError
from pushrail_stream.operations import kafka_checks, setup_checks
from pushrail_stream.operations.findings import STATES, Check, Finding, Installation, NotKnownError
from pushrail_stream.settings.source import LoadedSettings

DEADLINE_SECS: Final = 30.0
"""Seconds after which a check counts as hung. The longest wait of its parts is 20 s, for a credential process."""

CHECKS: Final[Mapping[str, Check]] = {
    "settings": setup_checks.check_settings,
    "kafka": kafka_checks.check_cluster,
    "topics": kafka_checks.check_topics,
    "rights": kafka_checks.check_rights,
    "group": kafka_checks.check_groups,
    "backlogs": kafka_checks.check_backlogs,
    "workers": kafka_checks.check_workers,
    "aws": setup_checks.check_identity,
    "clock": setup_checks.check_clock,
    "keyring": setup_checks.check_keyring,
    "documents": setup_checks.check_documents,
    "destinations": setup_checks.check_destinations,
    "ports": setup_checks.check_ports,
}
"""By name, in the order of the page."""


def diagnose(
    load: Callable[[], LoadedSettings],
    show: Callable[[int, int], None],
    checks: Mapping[str, Check] = CHECKS,
    deadline_secs: float = DEADLINE_SECS,
) -> list[Finding]:
    """The findings of all checks, the worst first. ``show`` gets the checks done and in all.

    Raises nothing that a check raises.
    """
    try:
        loaded = load()
    except OperatorError as error:
        remedy = "correct it; nothing else can be checked before (`pushrail-stream config show`)"
        return [Finding("settings", "problem", problem, remedy) for problem in error.problems]
    installation = Installation(loaded)
    found: dict[str, list[Finding]] = {name: [] for name in checks}
    running = {
        name: start_daemon_thread(_run, name, check, installation, found[name]) for name, check in checks.items()
    }
    with suppress(TimeoutError):
        for done, _ in enumerate(as_completed(running.values(), deadline_secs), 1):
            show(done, len(running))
    for name, check in running.items():
        if not check.done():
            found[name].append(Finding(name, "unknown", f"not known: no answer within {deadline_secs:.0f} s"))
    return sorted((finding for some in found.values() for finding in some), key=lambda one: STATES.index(one.state))


def _run(name: str, check: Check, installation: Installation, found: list[Finding]) -> None:
    """Collect the findings one by one, so that those before a hang or a failure are kept."""
    try:
        found.extend(check(installation))
    except NotKnownError as error:
        found.append(Finding(name, "unknown", f"not known: {error}"))
    except OperatorError as error:
        found.extend(Finding(name, "problem", problem) for problem in error.problems)
    except Exception as error:  # noqa: BLE001 - a bug in one check hides no other finding
        text = safe_message(f"{type(error).__name__}: {error}")
        found.append(Finding(name, "unknown", f"not known: the check failed with {text}", "report this as a bug"))
