"""``pushrail-stream access``: the rights that each program and each customer has to be given."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import Column, document, note, say
from pushrail_stream.errors import UsageError

if TYPE_CHECKING:
    from pushrail_stream.kafka.access import Program
    from pushrail_stream.operations.aws_access import Ours
    from pushrail_stream.settings.model import Settings

_PROGRAMS: Final = (
    "workers", "ingest", "producers", "commands", "replays", "skips", "requests", "changes", "creation", "audited",
)  # fmt: skip


@click.group(epilog="Example: pushrail-stream access kafka --program workers --principal User:pushrail-worker")
def access() -> None:
    """Print the rights to give at Kafka and AWS: ACLs and IAM policies, from the settings and documents."""


@access.command(epilog="Example: pushrail-stream access kafka --program workers --principal User:pushrail-worker")
@click.option(
    "--program", "programs", type=click.Choice(_PROGRAMS), multiple=True,
    help="Only the rights of this program; the option may be repeated.",
)  # fmt: skip
@click.option(
    "--principal", metavar="TYPE:NAME", help="Print the commands of kafka-acls.sh that allow them to this user."
)
@common_options
def kafka(options: Options, *, programs: tuple[Program, ...], principal: str | None) -> None:
    """List the ACLs that each program needs, with the names of these settings. Kafka is not asked.

    \b
    workers    run
    ingest     ingest
    producers  your own programs that write events
    commands   commands that look, and replay offsets
    replays    replay dlq, replay events, destinations resume
    skips      topics skip
    requests   retry now
    changes    destinations put, import, enable, disable, delete, seal, onboard; keys rotate
    creation   topics create
    audited    every command that changes something, with audit.enabled

    Programs from replays on need the rights of commands too. Give each program a user of its own: a client that may
    write to a retry topic or to the topic of documents decides where customers' events go. `doctor` asks the brokers
    whether a worker has its rights.

    With --json: one object with program, resource, setting, name, pattern (literal or prefixed), operations and
    command (null without --principal) for each.
    """  # noqa: D301 - click's own mark for lines that it must not fill
    from pushrail_stream.kafka.access import PROGRAMS, grants

    if principal is not None and not all(principal.partition(":")[::2]):
        raise UsageError("--principal: must be a type and a name such as User:pushrail-worker")
    settings = options.settings
    found = grants(settings, programs or tuple(PROGRAMS))
    servers = settings.kafka.bootstrap_servers
    commands = [grant.command(servers, principal) if principal else None for grant in found]
    if principal is not None and not options.json:
        options.refuse_csv()
        # Two programs may need the same, and one user may be both.
        for command in dict.fromkeys(filter(None, commands)):
            say(command)
        return
    patterns = ["prefixed" if grant.is_prefix else "literal" for grant in found]
    options.table(
        ("program", "resource", "name", "pattern", Column("operations", "text")),
        [
            (grant.program, grant.resource, grant.name, pattern, ", ".join(grant.operations))
            for grant, pattern in zip(found, patterns, strict=True)
        ],
        [
            {
                "program": grant.program, "resource": grant.resource, "setting": grant.setting, "name": grant.name,
                "pattern": pattern, "operations": list(grant.operations), "command": command,
            }
            for grant, pattern, command in zip(found, patterns, commands, strict=True)
        ],
    )  # fmt: skip


@access.command(epilog="Example: pushrail-stream access aws > pushrail-worker-policy.json")
@click.option(
    "--program", type=click.Choice(("workers", "sealing")), default="workers", show_default=True,
    help="For workers and `destinations test`, or for the commands that seal secrets with a KMS key.",
)  # fmt: skip
@click.option(
    "--any-account",
    is_flag=True,
    help="Allow customers' roles by their names in any account, so that the policy need not change with each customer.",
)
@common_options
def aws(options: Options, *, program: Ours, any_account: bool) -> None:
    """Print the IAM policy that our own credentials need, as JSON for `aws iam create-policy --policy-document`.

    Workers assume the roles of the destinations in the registry, and open secrets with the keyring's KMS keys. A role
    whose external ID is wrong still cannot be assumed: its trust policy decides that. AWS is not asked. Remarks are on
    stderr.
    """
    from pushrail_stream.documents import open_keyring
    from pushrail_stream.operations.aws_access import our_policy
    from pushrail_stream.operations.destinations import load_documents

    settings = options.settings
    keyring = open_keyring(settings, os.environ)
    destinations = load_documents(settings, decrypt=False).catalog if program == "workers" else ()
    keys = () if keyring is None else keyring.kms_keys
    policy, remarks = our_policy(program, destinations, keys, settings.sts.region, any_account=any_account)
    options.document(policy)
    for remark in remarks:
        note(remark)


@access.command(epilog="Example: pushrail-stream access destination dst_acme_8K2zRq --our-account 210987654321")
@click.argument("destination_id", metavar="ID")
@click.option("--our-account", metavar="ACCOUNT", help="Our own AWS account; without this option STS is asked.")
@common_options
def destination(options: Options, *, destination_id: str, our_account: str | None) -> None:
    """Print the IAM policies that the customer of a destination grants: the trust of its role, and its permissions.

    They allow what delivering takes and nothing else: to put events on the one bus, and to ask whether it exists.
    `destinations onboard` writes the same policies for a new customer, with templates that apply them.

    With --json: one object with trust (null for an access key) and permissions. Both are null for a partner event
    source.
    """
    from pushrail_stream.operations.aws_access import customer_policies
    from pushrail_stream.operations.destinations import find_destination
    from pushrail_stream.settings.values import ACCOUNT, check_options

    check_options(("--our-account", ACCOUNT, our_account))
    options.refuse_csv()
    settings = options.settings
    found = find_destination(settings, destination_id, note, decrypt=False)
    policies = customer_policies(found, our_account or partial(_ask_sts, settings))
    if options.json:
        options.answer({"trust": policies.get("trust"), "permissions": policies.get("permissions")})
        return
    if not policies:
        note("the customer grants nothing: our own credentials sign, and the customer makes a bus for the event source")
    for kind, policy in policies.items():
        say(f"{kind}:")
        document(policy)


def _ask_sts(settings: Settings, partition: str) -> str | None:
    from pushrail_stream.operations.onboarding import ask_own_account

    return ask_own_account(settings, partition, note)
