"""``pushrail-stream destinations onboard``: a new customer's document, and what they paste into their account."""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from pushrail_stream.cli.options import Options, check_options, common_options
from pushrail_stream.cli.output import emit, note, say
from pushrail_stream.core.signals import DocumentRefused
from pushrail_stream.documents import document_parser, load_registry
from pushrail_stream.errors import UsageError
from pushrail_stream.eventbridge.bus import known_regions
from pushrail_stream.eventbridge.http import Timeouts
from pushrail_stream.eventbridge.own_identity import UnknownIdentity, own_account
from pushrail_stream.operations.documents import new_name, write_document
from pushrail_stream.operations.onboarding import ROLE, Onboarding, new_external_id
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry import Parsed
from pushrail_stream.settings import Settings
from pushrail_stream.settings.values import (
    ACCOUNT,
    CUSTOMER,
    NEW_BUS,
    REGION,
    ROLE_NAME,
    VENDOR,
    Rule,
    partition_of,
)  # fmt: skip

_STS_SECS: Final = 5.0
_RULES: Final[Mapping[str, Rule]] = {
    "vendor": VENDOR, "customer": CUSTOMER, "account": ACCOUNT, "our_account": ACCOUNT, "bus": NEW_BUS,
    "role": ROLE_NAME,
    # The templates are not made for isolated and sovereign regions.
    "region": Rule(re.compile(f"(?!eusc-|.*-iso){REGION.pattern.pattern}"), REGION.requirement),
}  # fmt: skip
"""The rule of each option: a template must be as good as the document."""


@click.command(
    epilog="Example: pushrail-stream destinations onboard --vendor acme --customer acct_8K2zRq "
    "--region us-east-1 --account 123456789012"
)
@click.option("--vendor", required=True, help="Whose events these are.")
@click.option("--customer", required=True, help="The events' customerExternalId.")
@click.option("--region", required=True, help="The customer's AWS region.")
@click.option("--account", required=True, help="The customer's AWS account, 12 digits.")
@click.option("--bus", default="pushrail-events", show_default=True, help="Name of the bus to be made.")
@click.option("--role", default=ROLE, show_default=True, help="Name of the role to be made.")
@click.option("--archive-days", type=click.IntRange(1), help="Let the templates keep an archive for so long.")
@click.option("--our-account", help="Our own AWS account; without it STS is asked.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write the customer's files here.")
@click.option("--dry-run", is_flag=True, help="Write nothing; the external ID shown is not kept.")
@common_options
def onboard(
    options: Options,
    *,
    vendor: str,
    customer: str,
    region: str,
    account: str,
    bus: str,
    role: str,
    archive_days: int | None,
    our_account: str | None,
    out: Path | None,
    dry_run: bool,
) -> None:
    """Onboard a customer: write their destination document, disabled, and print what they need.

    That is a CloudFormation and a Terraform template (bus, role with trust policy and least privilege, optionally an
    archive), the same as policy JSON, and three example rules. When the customer has applied one of the templates,
    `destinations test ID` verifies it; then set "enabled" to true in the document.

    With --json: one object with document, file, cloudFormation, terraform, trustPolicy, permissionsPolicy and rules.
    """
    settings = options.settings
    onboarding = Onboarding(
        vendor=vendor,
        customer=customer,
        region=region,
        account=account,
        bus=bus,
        role=role,
        external_id=new_external_id(vendor),
        our_account=our_account,
        archive_days=archive_days,
    )
    _check_options(onboarding)
    _check_region(onboarding, settings)
    content = (json.dumps(onboarding.document(), indent=2, ensure_ascii=False) + "\n").encode()
    name = new_name(settings, onboarding.destination_id)
    _check(onboarding, name, content, settings)
    if our_account is None:
        onboarding = dataclasses.replace(onboarding, our_account=_ask_sts(settings, onboarding.partition))
    if not dry_run:
        _make_directory(settings)
        # The files first: when they cannot be written, there is no document that refuses the next attempt.
        if out is not None:
            _write(onboarding, out)
        asyncio.run(write_document(settings, name, content))
    written = None if dry_run else name
    if options.json:
        emit(_everything(onboarding, written))
    else:
        _print(onboarding, written)


def _ask_sts(settings: Settings, partition: str) -> str | None:
    sts = settings.sts
    try:
        own = asyncio.run(own_account(sts, Timeouts(_STS_SECS, _STS_SECS)))
    except UnknownIdentity as error:
        problem = f"is not known ({error})"
    else:
        if own.partition == partition:
            return own.account
        problem = f"is of the partition {own.partition}, which cannot assume a role of {partition}"
    note(f"our own AWS account {problem}: the templates leave it open; --our-account names it")
    return None


def _check_options(onboarding: Onboarding) -> None:
    check_options(*((f"--{name.replace('_', '-')}", rule, getattr(onboarding, name)) for name, rule in _RULES.items()))


def _check_region(onboarding: Onboarding, settings: Settings) -> None:
    ours = settings.sts.region
    if partition_of(ours) != onboarding.partition:
        raise UsageError(
            f"--region: {onboarding.region} is of the partition {onboarding.partition}, where workers whose sts.region "
            f"is {ours} can assume no role: onboard with the settings of workers that run in that partition",
        )
    known = known_regions()
    if onboarding.region not in known:
        alike = difflib.get_close_matches(onboarding.region, known)
        hint = f"; alike are {', '.join(alike)}" if alike else ""
        note(f"--region: {onboarding.region} is not among the regions known here{hint}")


def _make_directory(settings: Settings) -> None:
    """The first customer's document may be the first of all."""
    path = settings.registry.path
    if settings.registry.topic or path.exists():
        return
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()} (registry.path)") from error
    note(f"made the directory {path}")


def _check(onboarding: Onboarding, name: str, content: bytes, settings: Settings) -> None:
    """What would be refused as a document, by itself or beside the others, is refused before anything is written."""
    checked = document_parser(settings, os.environ)(content)
    if not isinstance(checked, Parsed):
        raise UsageError("\n".join(f"{field}: {problem}" for field, problem in checked))
    if not settings.registry.topic and not settings.registry.path.exists():
        return  # there is no document beside this one yet
    catalog, signals = asyncio.run(load_registry(settings, os.environ))
    for known in catalog.route(onboarding.vendor, onboarding.customer):
        there = f"{known.id} ({catalog.document_of(known.id)})"
        raise UsageError(
            f"--customer: has a destination already, {there}: change or delete that one, or "
            "write another document and `destinations put` it",
        )
    if any(isinstance(signal, DocumentRefused) and signal.document == name for signal in signals):
        raise UsageError(f"--customer: {name} is there already, and refused (`destinations validate`): mend it")
    change = catalog.apply([DocumentChange(name, content)])
    if change.removed:
        problem = f"{name} is there already, and the document of {', '.join(change.removed)}: rename it first"
        raise UsageError(f"--customer: {problem}")
    for refusal in change.refusals:
        hint = "; name another role with --role" if refusal.field == "auth.roleArn" else ""
        raise UsageError(f"{refusal.field}: {refusal.problem}{hint}")


def _files(onboarding: Onboarding) -> dict[str, str]:
    policies = {"trust": onboarding.trust_policy(), "permissions": onboarding.permissions_policy()}
    return {
        "cloudformation.yaml": onboarding.cloudformation(),
        "main.tf": onboarding.terraform(),
        "policies.json": json.dumps(policies, indent=2) + "\n",
        "rules.json": json.dumps(onboarding.rules(), indent=2) + "\n",
    }


def _write(onboarding: Onboarding, folder: Path) -> None:
    files = _files(onboarding)
    for name in files:
        if (folder / name).exists():
            raise UsageError(f"--out: {folder / name} is there already and might be somebody's")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out: {folder}: {(error.strerror or str(error)).lower()}") from error
    note(f"written to {folder}: {', '.join(files)}")


def _everything(onboarding: Onboarding, name: str | None) -> dict[str, object]:
    return {
        "document": onboarding.document(),
        "file": name,
        "cloudFormation": onboarding.cloudformation(),
        "terraform": onboarding.terraform(),
        "trustPolicy": onboarding.trust_policy(),
        "permissionsPolicy": onboarding.permissions_policy(),
        "rules": onboarding.rules(),
    }


def _print(onboarding: Onboarding, name: str | None) -> None:
    say(f"destination  {onboarding.destination_id}")
    say(f"document     {'not written (--dry-run)' if name is None else f'{name}, disabled'}")
    say(f"external ID  {onboarding.external_id}")
    say(f"bus          {onboarding.bus_arn}")
    say(f"role         {onboarding.role_arn}")
    for title, content in _files(onboarding).items():
        click.echo(f"\n=== {title}\n\n{content.rstrip()}")
    click.echo("")
    where = f"account {onboarding.account}, region {onboarding.region}"
    say(f"Next: the customer applies one of the two templates in {where}; then")
    say(f"  pushrail-stream destinations test {onboarding.destination_id}")
    say('and set "enabled" to true in the document.')
