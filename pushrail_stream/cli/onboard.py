"""``pushrail-stream destinations onboard``: a new customer's document, and what they paste into their account."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Final

import click

from pushrail_stream.app import document_parser, load_registry
from pushrail_stream.cli.documents import new_name, write_document
from pushrail_stream.cli.errors import CommandError
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, remark, say
from pushrail_stream.eventbridge.identity import UnknownIdentity, own_account
from pushrail_stream.ports import DocumentChange
from pushrail_stream.registry import ROLE, Onboarding, Parsed, new_external_id
from pushrail_stream.settings import Settings

_STS_SECS: Final = 5.0


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
@click.option("--dry-run", is_flag=True, help="Write no document; the external ID shown is not kept.")
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
        our_account=our_account or _ask_sts(settings),
        archive_days=archive_days,
    )
    content = (json.dumps(onboarding.document(), indent=2, ensure_ascii=False) + "\n").encode()
    _check(onboarding, content, settings)
    name = None if dry_run else new_name(settings, onboarding.destination_id)
    if name is not None:
        asyncio.run(write_document(settings, name, content))
    if out is not None:
        _write(onboarding, out)
    if options.json:
        emit(_everything(onboarding, name))
    else:
        _print(onboarding, name)


def _ask_sts(settings: Settings) -> str | None:
    sts = settings.sts
    try:
        return asyncio.run(own_account(region=sts.region, endpoint_url=sts.endpoint_url, timeout_secs=_STS_SECS))
    except UnknownIdentity as error:
        remark(f"our own AWS account is not known ({error}): the templates leave it open; --our-account names it")
        return None


def _check(onboarding: Onboarding, content: bytes, settings: Settings) -> None:
    """What would be refused as a document, by itself or beside the others, is refused before anything is written."""
    checked = document_parser(settings, os.environ)(content)
    if not isinstance(checked, Parsed):
        raise CommandError("\n".join(f"{field}: {problem}" for field, problem in checked), 2)
    for name in ("account", "our_account"):
        value = getattr(onboarding, name)
        if value is not None and not (value.isascii() and value.isdigit() and len(value) == 12):  # noqa: PLR2004
            raise CommandError(f"--{name.replace('_', '-')}: must be an AWS account id of 12 digits", 2)
    catalog, _ = asyncio.run(load_registry(settings, os.environ))
    if (known := catalog.document_of(onboarding.destination_id)) is not None:
        raise CommandError(f"{onboarding.destination_id} is there already ({known}): change or delete that one")
    for refusal in catalog.apply([DocumentChange(onboarding.destination_id, content)]).refusals:
        hint = "; name another role with --role" if refusal.field == "auth.roleArn" else ""
        raise CommandError(f"{refusal.field}: {refusal.problem}{hint}", 2)


def _files(onboarding: Onboarding) -> dict[str, str]:
    policies = {"trust": onboarding.trust_policy(), "permissions": onboarding.permissions_policy()}
    return {
        "cloudformation.yaml": onboarding.cloudformation(),
        "main.tf": onboarding.terraform(),
        "policies.json": json.dumps(policies, indent=2) + "\n",
        "rules.json": json.dumps(onboarding.rules(), indent=2, ensure_ascii=False) + "\n",
    }


def _write(onboarding: Onboarding, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in _files(onboarding).items():
            (folder / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"--out: {folder}: {(error.strerror or str(error)).lower()}") from error
    remark(f"written to {folder}: {', '.join(_files(onboarding))}")


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
    say("Next: the customer applies one of the two templates in their account; then")
    say(f"  pushrail-stream destinations test {onboarding.destination_id}")
    say('and set "enabled" to true in the document.')
