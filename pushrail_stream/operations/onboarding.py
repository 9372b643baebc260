"""Onboards a customer: checks the facts, and writes the destination document and the customer's files."""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.signals import DocumentRefused, Signal
from pushrail_stream.documents import document_parser, load_registry
from pushrail_stream.errors import UsageError
from pushrail_stream.eventbridge.bus import known_regions
from pushrail_stream.eventbridge.own_identity import UnknownIdentity, own_account
from pushrail_stream.files import reason_of
from pushrail_stream.operations.document_changes import write_document
from pushrail_stream.operations.document_plan import new_name
from pushrail_stream.operations.onboarding_files import customer_files
from pushrail_stream.operations.onboarding_templates import Onboarding
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.registry.documents import Parsed
from pushrail_stream.settings.eventbridge import AssumeRole, auth_of
from pushrail_stream.settings.model import EventBridgeSettings, Settings
from pushrail_stream.settings.values import (
    ACCOUNT,
    BUS_V2_ARN,
    CUSTOMER,
    NEW_BUS,
    REGION,
    ROLE_NAME,
    VENDOR,
    Arn,
    Rule,
    check_options,
    partition_of,
)  # fmt: skip

Note = Callable[[str], None]
"""Shows the operator a line beside the result."""
_TIMEOUTS: Final = EventBridgeSettings(connect_timeout_secs=5, read_timeout_secs=5)
_RULES: Final[Mapping[str, Rule]] = {
    "vendor": VENDOR, "customer": CUSTOMER, "account": ACCOUNT, "our_account": ACCOUNT, "bus": NEW_BUS,
    "role": ROLE_NAME, "v2_bus": BUS_V2_ARN,
    # The templates are not made for isolated and sovereign regions.
    "region": Rule(re.compile(f"(?!eusc-|.*-iso){REGION.pattern.pattern}"), REGION.requirement),
}  # fmt: skip
"""The rule of each option: a template must be as good as the document."""


class Onboarded(NamedTuple):
    """A customer who is onboarded."""

    onboarding: Onboarding
    """The facts, with the external ID in force, and with our own account if STS knows it."""
    document: str
    """The document's name."""
    known: Destination | None
    """The destination of a document that was there before; None for a new document."""


def onboard_customer(
    settings: Settings, onboarding: Onboarding, folder: Path | None, note: Note, *, is_dry_run: bool
) -> Onboarded:
    """Write the customer's document, disabled, and their files into ``folder``.

    A document that the same onboarding has written before stays as it is: only the files are written, with its external
    ID. Raises `OperatorError`.
    """
    check_options(*((f"--{name.replace('_', '-')}", rule, getattr(onboarding, name)) for name, rule in _RULES.items()))
    _check_v2_bus(onboarding)
    _check_region(onboarding, settings, note)
    name = new_name(settings, onboarding.destination_id)
    catalog, signals = _read_registry(settings)
    known = _find_known(onboarding, catalog)
    if known is not None:
        name = catalog.document_of(known[0].id) or name
        onboarding = dataclasses.replace(onboarding, external_id=known[1])
    content = (json.dumps(onboarding.document(), indent=2, ensure_ascii=False) + "\n").encode()
    if known is None:
        _check_document(DocumentChange(name, content), settings, catalog, signals)
    if onboarding.our_account is None:
        onboarding = dataclasses.replace(onboarding, our_account=ask_own_account(settings, onboarding.partition, note))
    if not is_dry_run:
        _make_directory(settings, note)
        # The files come first: when they cannot be written, no document stands in the way of the next attempt.
        if folder is not None:
            _write_files(onboarding, folder, note)
        if known is None:
            write_document(settings, name, content)
    return Onboarded(onboarding, name, known and known[0])


def _read_registry(settings: Settings) -> tuple[Catalog, list[Signal]]:
    """The destinations there are; none before the folder of documents exists."""
    if settings.registry.topic or settings.registry.path.exists():
        return asyncio.run(load_registry(settings, os.environ))
    parse = document_parser(settings, os.environ)
    return Catalog(lambda _, content: parse(content)), []


def _find_known(onboarding: Onboarding, catalog: Catalog) -> tuple[Destination, str] | None:
    """The destination that the same onboarding has made before, and its external ID.

    Raises `UsageError` when the customer has another destination.
    """
    facts = (onboarding.destination_id, onboarding.bus_arn, onboarding.source, onboarding.role_arn)
    route = catalog.route(onboarding.vendor, onboarding.customer)
    for known in route:
        auth = auth_of(known)
        if isinstance(auth, AssumeRole) and facts == (known.id, known.bus.arn, known.source, auth.role_arn):
            return known, auth.external_id
    if route:
        there = f"{route[0].id} ({catalog.document_of(route[0].id)})"
        raise UsageError(
            f"--customer: has a destination already, {there}, of another account, region, bus or role: change or "
            "delete that one, or write another document and `destinations put` it"
        )
    return None


def ask_own_account(settings: Settings, partition: str, note: Note) -> str | None:
    """Our own AWS account, if STS knows it and it may assume roles of this partition; else ``note`` gets the reason."""
    try:
        own = asyncio.run(own_account(settings.sts, _TIMEOUTS))
    except UnknownIdentity as error:
        problem = f"is not known ({error})"
    else:
        if own.partition == partition:
            return own.account
        problem = f"is of the partition {own.partition}, which cannot assume a role of {partition}"
    note(f"our own AWS account {problem}: it is left open; --our-account names it")
    return None


def _check_v2_bus(onboarding: Onboarding) -> None:
    if onboarding.v2_bus is None:
        return
    arn = Arn.of(onboarding.v2_bus)
    for option, part, given in (
        ("region", arn.region, onboarding.region),
        ("account", arn.account, onboarding.account),
    ):
        if part != given:
            raise UsageError(f"--v2-bus: the bus is of the {option} {part}, not {given} (--{option})")
    if onboarding.archive_days is not None:
        raise UsageError("--archive-days: such a bus has no archive, but a retention period of its own")


def _check_region(onboarding: Onboarding, settings: Settings, note: Note) -> None:
    ours = settings.sts.region
    if partition_of(ours) != onboarding.partition:
        raise UsageError(
            f"--region: {onboarding.region} is of the partition {onboarding.partition}, where workers whose sts.region "
            f"is {ours} can assume no role: onboard with the settings of workers that run in that partition"
        )
    known = known_regions()
    if onboarding.region not in known:
        alike = difflib.get_close_matches(onboarding.region, known)
        hint = f"; alike are {', '.join(alike)}" if alike else ""
        note(f"--region: {onboarding.region} is not among the regions known here{hint}")


def _make_directory(settings: Settings, note: Note) -> None:
    """Make the registry's directory for the first document of all."""
    path = settings.registry.path
    if settings.registry.topic or path.exists():
        return
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"{path}: {reason_of(error)} (registry.path)") from error
    note(f"made the directory {path}")


def _check_document(document: DocumentChange, settings: Settings, catalog: Catalog, signals: Iterable[Signal]) -> None:
    """Raise `UsageError` for a document that would be refused, by itself or beside the others."""
    name = document.name
    checked = document_parser(settings, os.environ)(document.content or b"")
    if not isinstance(checked, Parsed):
        raise UsageError(*(f"{field}: {problem}" for field, problem in checked))
    if any(isinstance(signal, DocumentRefused) and signal.document == name for signal in signals):
        raise UsageError(f"--customer: {name} is there already, and refused (`destinations validate`): mend it")
    change = catalog.apply([document])
    if change.removed:
        problem = f"{name} is there already, and the document of {', '.join(change.removed)}: rename it first"
        raise UsageError(f"--customer: {problem}")
    for refusal in change.refusals:
        hint = "; name another role with --role" if refusal.field == "auth.roleArn" else ""
        raise UsageError(f"{refusal.field}: {refusal.problem}{hint}")


def _write_files(onboarding: Onboarding, folder: Path, note: Note) -> None:
    files = customer_files(onboarding)
    for name in files:
        if (folder / name).exists():
            raise UsageError(f"--out: {folder / name} is there already, and is not overwritten")
    try:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out: {folder}: {reason_of(error)}") from error
    note(f"written to {folder}: {', '.join(files)}")
