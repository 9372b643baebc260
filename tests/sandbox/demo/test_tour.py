"""The tour: every command that a kept sandbox prints, run as it stands, does what it says."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import pytest

from pushrail_stream.sandbox.demo.customers import CUSTOMERS, OUR_KEYS
from tests.support.commands import SOURCES
from tests.support.forked_command import run_forked
from tests.support.patience import PATIENCE_SECS

KEY = "order_38a91f-completed"
GRANTED = "dst_acme_8K2zRq"


class Sandbox(NamedTuple):
    """A kept sandbox, as its terminal shows it."""

    addresses: dict[str, str]
    commands: dict[str, str]
    """By the comment above."""
    last: str
    """The last line."""

    @property
    def folder(self) -> str:
        return self.addresses["settings"].removesuffix("/pushrail.yaml")

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a line as it was printed, in a terminal with other settings, another account and another folder."""
        strange = {"AWS_PROFILE": "mine", "AWS_SESSION_TOKEN": "mine", "PUSHRAIL_KAFKA__BOOTSTRAP_SERVERS": "x:1"}
        return subprocess.run(  # noqa: S602 - as in a terminal
            command, shell=True, cwd="/", env=os.environ | strange, capture_output=True, text=True,
            timeout=PATIENCE_SECS, check=False,
        )  # fmt: skip

    async def ask(self, command: str, code: int = 0) -> str:
        """The output of the command, run with the sandbox's settings and keys; it must exit with ``code``."""
        environ = os.environ | OUR_KEYS.variables() | {"PUSHRAIL_CONFIG": self.addresses["settings"]}
        found, out, err = await run_forked(shlex.split(command), environ, home=Path(self.folder))
        assert found == code, out + err
        return out + err


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    process = subprocess.Popen(
        [sys.executable, "-m", "pushrail_stream", "sandbox", "--events", "300", "--keep"],
        cwd=SOURCES, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("next: "):
                break
        shown = lines[lines.index("Everything adds up.") :]
        addresses = dict(re.split(r" {2,}", line, maxsplit=1) for line in shown if re.match(r"[A-Za-z ]+ {2,}", line))
        commands = {name[2:]: line for name, line in pairwise(shown) if name.startswith("# ")}
        yield Sandbox(addresses, commands, shown[-1])
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECS) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def until(sandbox: Sandbox, name: str, holds: Callable[[str], bool], *, options: str = "", code: int = 0) -> str:
    """The output of a printed command once it is as expected: the worker needs a moment."""
    give_up_at = time.monotonic() + PATIENCE_SECS
    while True:
        done = sandbox.run(f"{sandbox.commands[name]}{options}")
        if done.returncode == code and holds(done.stdout):
            return done.stdout
        assert time.monotonic() < give_up_at, done


def rows(table: str) -> dict[str, list[str]]:
    """A table's rows by their first word."""
    return {line.split()[0]: line.split() for line in table.splitlines()[1:] if line[:1].strip()}


def test_a_sent_event_arrives_and_is_recorded(sandbox: Sandbox) -> None:
    shown, in_full = "the event as the customer got it", f'"idempotencyKey": "{KEY}"'
    attempts, arrived = "each attempt to deliver it", "delivered, EventBridge id "
    before = until(sandbox, shown, lambda out: in_full in out).count(in_full)
    told = until(sandbox, attempts, lambda out: out.count(arrived) == before)
    sent = sandbox.run(sandbox.commands["send an event"])
    assert sent.returncode == 0, sent.stderr
    after = until(sandbox, shown, lambda out: out.count(in_full) > before)
    assert '"detail-type": "order.completed"' in after
    story = until(sandbox, attempts, lambda out: out.count(arrived) > before)
    assert story.startswith(f"{KEY}  order.completed of acct_8K2zRq, pushrail.events/")
    new = [story.count(text) - told.count(text) for text in ("attempt 1: delivered", arrived, GRANTED)]
    assert new == [1, 1, 1]


def test_every_delivery_is_accounted_for(sandbox: Sandbox) -> None:
    out = until(sandbox, "an account of every delivery", lambda out: " 0 missing" in out)
    found = re.search(r"(\d+) events, (\d+) deliveries, 0 missing", out)
    assert found is not None
    assert int(found[1]) >= 300
    assert int(rows(out)[GRANTED][1]) > 0


def test_dead_letters_are_counted_and_would_be_replayed(sandbox: Sandbox) -> None:
    def count() -> int:
        letters = rows(sandbox.run(sandbox.commands["dead letters, and who caused them"]).stdout)
        assert letters["dst_quito"][1:5] == ["acct_quito", "blocked", "customer", "AccessDeniedException"]
        return int(letters["dst_quito"][5])

    # A delivery that another test replays may just become a dead letter again.
    replayed = "the deliveries that a replay would send again"
    until(sandbox, replayed, lambda out: int(rows(out)["dst_quito"][-1]) == count() > 0)


def test_the_destinations_show_their_state(sandbox: Sandbox) -> None:
    def is_told(out: str) -> bool:
        """A delivery of another test, or a second worker, may change a state for a moment."""
        states = {name: row for name, row in rows(out).items() if name.startswith("dst_")}
        assert states.keys() == {target.id for customer in CUSTOMERS for target in customer.targets}
        # Not the destination whose bus another test breaks: it stays slowed.
        wanted = {"dst_juniper": "ok", "dst_pamir": "blocked", "dst_quito": "AccessDeniedException"}
        return all(word in states[name] for name, word in wanted.items())

    until(sandbox, "the state of each destination", is_told)
    tested = sandbox.run(sandbox.commands["one destination, tested step by step"])
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "was taken, event id" in tested.stdout


def test_a_broken_bus_shows_in_the_attempts(sandbox: Sandbox) -> None:
    assert sandbox.run(sandbox.commands["break the bus"]).returncode == 0
    try:
        assert sandbox.run(sandbox.commands["send an event"]).returncode == 0
        until(sandbox, "each attempt to deliver it", lambda out: "retrying" in out)
        waiting = until(sandbox, "the deliveries that wait after 10 s, and until when", lambda out: GRANTED in out)
        assert rows(waiting)[GRANTED][1:4] == ["retryable", "503", "1"]
    finally:
        repaired = sandbox.run(sandbox.commands["repair the bus"])
    assert json.loads(repaired.stdout) == {"rules": []}
    begun = sandbox.run(sandbox.commands["deliver them now"])
    assert begun.returncode == 0, begun.stderr
    assert f"deliveries to {GRANTED} begun" in begun.stderr
    until(sandbox, "each attempt to deliver it", lambda out: "delivered" in out.splitlines()[-1])
    until(sandbox, "the deliveries that wait after 10 s, and until when", lambda out: GRANTED not in out)


def test_the_worker_is_seen_and_can_be_asked(sandbox: Sandbox) -> None:
    name = "workers, and destinations that need attention, until q"

    def alive(out: str) -> list[str]:
        return [worker["http"] for worker in json.loads(out)["workers"] if worker["state"] == "alive"]

    [address] = alive(until(sandbox, name, lambda out: len(alive(out)) == 1, options=" --once --json"))
    assert address in sandbox.addresses["status page"]


def test_the_doctor_names_the_customers_mistakes(sandbox: Sandbox) -> None:
    def is_told(out: str) -> bool:
        # A worker that has just joined its group is not ready yet, and doctor names it, too.
        problems = [line.split()[2] for line in out.splitlines() if line.split()[:2] == ["problem", "destinations"]]
        return sorted(problems) == ["dst_pamir:", "dst_quito:"]

    until(sandbox, "the whole installation, problems first", is_told, code=1)


def test_the_readme_shows_commands_of_the_tour(sandbox: Sandbox) -> None:
    readme = (SOURCES / "README.md").read_text(encoding="utf-8")
    tour = readme.split("\n## See it work\n")[1].split("\n## ")[0]
    shown = re.findall(r"^ {4}(pushrail-stream .*?)(?: *#.*)?$", tour, re.MULTILINE)
    printed = {
        line[line.index("pushrail-stream ") :] for line in sandbox.commands.values() if "/pushrail-stream " in line
    }
    assert len(shown) > 5
    assert set(shown) <= printed


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (
            "topics describe",
            1,
            r"could not be checked: pushrail.events, .*: the embedded Kafka keeps no settings of topics",
        ),
        ("topics create --dry-run", 0, "exists"),
        ("dlq show --destination dst_quito --since 1h --limit 1", 0, "AccessDeniedException"),
        ("replay events --customer acct_malmo --since 1h --dry-run", 0, r"dst_malmo_orders +[1-9]"),
        ("replay dlq --destination dst_quito --limit 1", 0, "1 deliveries are on their way"),
        ("replay offsets --to 1h --dry-run", 1, "finds no record of pushrail.events by its time"),
        ("replay offsets --to earliest --dry-run", 0, r"\+[1-9]\d*"),
        ("replay offsets --to earliest", 1, "does not describe group pushrail-stream"),
        ("attempts --follow --since 1h --limit 3", 0, r"(?s)(dst_.*){2}"),
        ("attempts --status dead_lettered --since 1h", 0, "AccessDenied"),
        ("attempts --since 1h --until 30m", 0, "nothing was found"),
        ("sandbox inbox --rule 'by event type'", 0, "order.completed"),
        ("destinations validate", 0, "8 accepted"),
        ("events check order-completed.json", 0, "1 valid"),
    ],
)
async def test_other_commands_tell_the_truth(sandbox: Sandbox, command: str, code: int, said: str) -> None:
    assert re.search(said, await sandbox.ask(command, code))


async def test_a_destination_is_disabled_and_enabled(sandbox: Sandbox) -> None:
    assert "dst_osaka: disabled" in await sandbox.ask("destinations disable dst_osaka")
    assert "dst_osaka: enabled" in await sandbox.ask("destinations enable dst_osaka")


def test_another_worker_takes_its_share(sandbox: Sandbox) -> None:
    command = sandbox.commands["another worker, until Ctrl-C"]
    with subprocess.Popen(  # noqa: S602 - as in a terminal
        f"exec {command}", shell=True, cwd="/", stderr=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stderr is not None
        assert any("partitions_assigned" in line for line in worker.stderr)
        worker.send_signal(signal.SIGTERM)
        worker.stderr.read()
    assert worker.returncode == 0


def test_the_addresses_answer(sandbox: Sandbox) -> None:
    with urlopen(sandbox.addresses["status page"], timeout=PATIENCE_SECS) as page:  # noqa: S310 - as printed
        assert "<title>pushrail-stream" in page.read().decode()
    assert sandbox.addresses["settings"].endswith("/pushrail.yaml")


def test_the_next_step_begins_an_installation(sandbox: Sandbox, tmp_path: Path) -> None:
    command = sandbox.last.rpartition(": ")[2]
    done = sandbox.run(f"cd {tmp_path} && {command}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "config" / "pushrail.yaml").exists()
