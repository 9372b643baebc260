"""``pushrail-stream destinations onboard``: a new customer's document and files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pushrail_stream.cli.options import Options, audited, common_options
from pushrail_stream.cli.output import emit, note, say
from pushrail_stream.settings.eventbridge import BUS, ROLE

if TYPE_CHECKING:
    from pushrail_stream.operations.onboarding_templates import Onboarding


@click.command(
    epilog="Example: pushrail-stream destinations onboard --vendor acme --customer acct_8K2zRq "
    "--region us-east-1 --account 123456789012"
)
@click.option("--vendor", required=True, help="The vendor of the events.")
@click.option("--customer", required=True, help="The customerExternalId of the events.")
@click.option("--region", required=True, help="The customer's AWS region.")
@click.option("--account", required=True, help="The customer's AWS account, 12 digits.")
@click.option("--bus", default=BUS, show_default=True, help="The name of the bus that the templates make.")
@click.option(
    "--v2-bus",
    metavar="ARN",
    help="The customer's own bus of eventbridgev2 (Custom Event Bus). It is there already: the template makes none.",
)
@click.option("--role", default=ROLE, show_default=True, help="The name of the role that the templates make.")
@click.option("--archive-days", type=click.IntRange(1), help="Let the templates keep an archive for this many days.")
@click.option("--our-account", help="Our own AWS account; without this option STS is asked.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write the customer's files here.")
@click.option("--dry-run", is_flag=True, help="Write nothing; the external ID shown is not kept.")
@common_options
@audited
def onboard(
    options: Options, /, *, vendor: str, bus: str, v2_bus: str | None, out: Path | None, dry_run: bool, **facts: Any
) -> None:
    """Onboard a customer: write their destination document, disabled, and the files for them.

    README.md is the page for the customer. The other files are a CloudFormation and a Terraform template (bus, role
    with trust policy and least privilege, a rule that sends every event to a log group, optionally an archive), the
    policies as JSON, three rules for `aws events put-rule`, and templates of further targets. Without --out no file is
    written. The same command writes the files again, for example with --our-account: the document stays as it is.

    With --v2-bus the files are fewer: no Terraform template, and a subscriber with a queue in the place of rules.

    When the customer has applied one of the templates, `destinations test ID` verifies it, and `destinations enable ID`
    begins the deliveries.

    With --json: one object with document, file, cloudFormation, terraform, trustPolicy, permissionsPolicy, rules, and
    files (the content of each file, by its path).
    """
    from pushrail_stream.operations.onboarding import onboard_customer
    from pushrail_stream.operations.onboarding_files import customer_files
    from pushrail_stream.operations.onboarding_templates import Onboarding, new_external_id
    from pushrail_stream.registry.documents import to_document

    if v2_bus is not None:
        # event-busv2/NAME/ID. Another ARN is refused below.
        bus = v2_bus.partition("/")[2].partition("/")[0] or bus
    facts |= {"bus": bus, "v2_bus": v2_bus}
    onboarding = Onboarding(vendor=vendor, external_id=new_external_id(vendor), **facts)
    onboarding, name, known = onboard_customer(options.settings, onboarding, out, note, is_dry_run=dry_run)
    if not options.json:
        state = "not written (--dry-run)" if dry_run else f"{name}, {'unchanged' if known else 'disabled'}"
        _print(onboarding, state, None if dry_run else out)
        return
    emit({
        "document": onboarding.document() if known is None else to_document(known),
        "file": None if dry_run else name,
        "cloudFormation": onboarding.cloudformation(),
        "terraform": onboarding.terraform() if v2_bus is None else None,
        "trustPolicy": onboarding.trust_policy(),
        "permissionsPolicy": onboarding.permissions_policy(),
        "rules": onboarding.rules(),
        "files": customer_files(onboarding),
    })  # fmt: skip


def _print(onboarding: Onboarding, state: str, out: Path | None) -> None:
    from pushrail_stream.operations.onboarding_files import PAGE

    say(f"destination  {onboarding.destination_id}")
    say(f"document     {state}")
    say(f"external ID  {onboarding.external_id}")
    say(f"bus          {onboarding.bus_arn}")
    say(f"role         {onboarding.role_arn}")
    say("")
    where = f"account {onboarding.account}, region {onboarding.region}"
    if out is None:
        say("First, write the customer's files by the same command with --out DIR.")
    if onboarding.v2_bus is None:
        templates, place = ("one of the", "two templates"), "log group"
    else:
        templates, place = ("the", "template"), "queue"
    say(f"Next: give the customer the folder {out or 'DIR'}, {PAGE} first. They apply {templates[0]}")
    say(f"{templates[1]} in {where}; then")
    say(f"  pushrail-stream destinations test {onboarding.destination_id}")
    say(f"sends an event that they see in their {place}, and this command begins the deliveries:")
    say(f"  pushrail-stream destinations enable {onboarding.destination_id}")
