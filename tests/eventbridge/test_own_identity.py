"""A failure to find our own credentials is our own fault and never a customer's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from pushrail_stream.core.outcome import Refresh, Retryable, Split
from pushrail_stream.eventbridge import own_identity
from pushrail_stream.eventbridge.error_codes import BASE_CREDENTIALS_MISSING, Answered, CallFailed, CallReply, judge
from pushrail_stream.eventbridge.own_identity import OwnKeys
from pushrail_stream.eventbridge.signing import Keys
from pushrail_stream.sandbox.bus.faults import CallError, Match, Rule
from pushrail_stream.settings.eventbridge import AssumeRole, Auth
from tests.support.batches import batch
from tests.support.builders import destination, modified
from tests.support.eventbridge_world import ASSUME, GOOD_KEY, Clock, failed, to, world
from tests.support.recording_server import CLOSE, Recorder, http

OURS = "arn:aws:iam::999999999999:role/ours"
SECRET = "wJalrXUtnFEMIxK7MDENG"


def xml_error(code: str) -> bytes:
    return f"<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>".encode()


class Case(NamedTuple):
    """The environment and the files of a case; ``{peer}`` stands for a server that answers ``reply``."""

    name: str
    env: dict[str, str] = {}  # noqa: RUF012 - never written to
    config: str = ""
    credentials: str = ""
    token: str | None = None
    reply: bytes = CLOSE


IRSA = {
    "AWS_ROLE_ARN": OURS,
    "AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}/token",
    "AWS_ENDPOINT_URL_STS": "{peer}",
    "AWS_REGION": "us-east-1",
}
PROFILE = {"AWS_PROFILE": "p", "AWS_ENDPOINT_URL_STS": "{peer}", "AWS_REGION": "us-east-1"}
CONTAINER = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{peer}/keys"}
ROLE_PROFILE = f"[profile p]\nrole_arn={OURS}\nsource_profile=src\n[profile src]\n"
SOURCE = f"[src]\naws_access_key_id=AKIASOURCE\naws_secret_access_key={SECRET}\n"
SSO = (
    "[profile p]\nsso_session=s\nsso_account_id=1\nsso_role_name=r\n[sso-session s]\nsso_region=us-east-1\n"
    "sso_start_url=https://example.awsapps.com/start\n"
)


def pair(key: str = "AKIAPAIR", secret: str = SECRET, **more: str) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, **more}


def container(**changes: object) -> bytes:
    keys = {"AccessKeyId": "ASIA", "SecretAccessKey": SECRET, "Token": "t", "Expiration": "2100-01-01T00:00:00Z"}
    return http("200 OK", json.dumps(keys | changes).encode(), "Content-Type: application/json")


CASES = [
    Case("web identity is denied", IRSA, token="a.b.c", reply=http("403 Forbidden", xml_error("AccessDenied"))),
    Case("web identity is invalid", IRSA, token="a.b.c", reply=http("400 B", xml_error("InvalidIdentityToken"))),
    Case("web identity gets no XML", IRSA, token="a.b.c", reply=http("200 OK", b"hello")),
    Case(
        "web identity gets a redirect", IRSA, token="a.b.c", reply=http("307 T", b"", "Location: http://127.0.0.1:1/")
    ),
    Case("web identity gets no reply", IRSA, token="a.b.c"),
    Case("web identity without a token file", IRSA),
    Case("a profile's role is denied", PROFILE, ROLE_PROFILE, SOURCE, reply=http("403 F", xml_error("AccessDenied"))),
    Case(
        "a profile's role with an endless source",
        PROFILE,
        ROLE_PROFILE.replace("source_profile=src", "source_profile=p"),
    ),
    Case("a profile without its source", PROFILE, ROLE_PROFILE),
    Case("a profile that does not exist", PROFILE),
    Case("a config file that is none", PROFILE, "no { ini\n"),
    Case("a config file with half a key", PROFILE, "[profile p]\naws_access_key_id=AKIA\n"),
    Case("no SSO token", PROFILE, SSO),
    Case("a credential process that prints no JSON", PROFILE, "[profile p]\ncredential_process=/bin/echo hi\n"),
    Case("a credential process that prints a list", PROFILE, "[profile p]\ncredential_process=/bin/echo []\n"),
    Case("a credential process that fails", PROFILE, "[profile p]\ncredential_process=/bin/false\n"),
    Case("a credential process that is not there", PROFILE, "[profile p]\ncredential_process=/no/such/program\n"),
    Case("a credential process that hangs", PROFILE, "[profile p]\ncredential_process=/bin/sh {folder}/hang.sh\n"),
    Case("a container without a reply", CONTAINER),
    Case("a container that answers an error", CONTAINER, reply=http("500 Oh", b"oh")),
    Case("a container that answers HTML", CONTAINER, reply=http("200 OK", b"<html>")),
    Case("a container's key with a line end", CONTAINER, reply=container(AccessKeyId="ASIA\n")),
    Case("a container's key that is a number", CONTAINER, reply=container(AccessKeyId=7)),
    Case("a container's token with a line end", CONTAINER, reply=container(Token="t\r\nX-Evil: 1")),
    Case("a container's keys that are over", CONTAINER, reply=container(Expiration="2001-01-01T00:00:00Z")),
    Case("a container elsewhere", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.com/keys"}),
    Case("a key with a line end", pair("AKIAPAIR\n")),
    Case("a secret with a line end", pair(secret=f"{SECRET}\n")),
    Case("a token with a line end", pair(AWS_SESSION_TOKEN="token\n")),
    Case("a key of letters that no header takes", pair("AKIÄ")),
    Case("half a pair", {"AWS_ACCESS_KEY_ID": "AKIAPAIR"}),
    Case("nothing at all"),
]


@asynccontextmanager
async def set_up(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    async with Recorder.serve(case.reply, closes=True) as peer:
        for name, value in case.env.items():
            monkeypatch.setenv(name, value.replace("{peer}", peer.url).replace("{folder}", str(folder)))
        for file, content in (("config", case.config), ("credentials", case.credentials), ("token", case.token)):
            if content:
                (folder / file).write_text(content.replace("{folder}", str(folder)))
        yield


@pytest.fixture
def hang(tmp_path: Path) -> Iterator[Path]:
    """A shell script that runs until the end of the test, but at most 20 s."""
    script, is_over = tmp_path / "hang.sh", tmp_path / "over"
    script.write_text(f"for turn in $(seq 200); do [ -e {is_over} ] && exit 1; sleep 0.1; done\n")
    yield script
    is_over.touch()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The limits, in seconds, of the waits for the chain."""
    limits = list[float]()

    async def wait(awaited: Any, *, timeout: float) -> None:
        limits.append(timeout)
        await asyncio.wait(awaited, timeout=timeout)

    watched = SimpleNamespace(get_running_loop=asyncio.get_running_loop, wait=wait)
    monkeypatch.setattr(own_identity, "asyncio", watched)
    return limits


def is_ours_alone(reply: CallReply) -> bool:
    """Whether the delivery waits without growing older, and no customer is blamed."""
    verdict = judge(reply, 1, assumed_role=True, refreshed=False)
    return not isinstance(verdict, Split | Refresh) and all(
        isinstance(one, Retryable) and one.is_our_fault for one in verdict
    )


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@pytest.mark.usefixtures("hang")
async def test_failing_own_credentials_are_our_fault(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    # botocore repeats a call for up to 15 s, and its thread would outlive the test.
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    async with set_up(case, tmp_path, monkeypatch), world(None) as (us, server):
        reply = await us.call(to(ASSUME))
        assert failed(reply) == ("Credentials", BASE_CREDENTIALS_MISSING, None)
        assert SECRET not in repr(reply)
        assert server.counts()["connections"] == 0, "no role was assumed"
        assert sum(waits) < 8
        assert is_ours_alone(reply)


async def test_a_repaired_file_is_read_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pair_of_keys = Clock(), ("AKIASOURCE", SECRET)
    monkeypatch.setenv("AWS_PROFILE", "p")
    (tmp_path / "config").write_text("no { ini\n")
    async with world(pair_of_keys, clock) as (us, _):
        assert failed(await us.call(to(ASSUME))) == ("Credentials", BASE_CREDENTIALS_MISSING, None)
        (tmp_path / "config").write_text("[profile p]\n" + SOURCE.partition("\n")[2])
        clock.epoch += 5
        assert isinstance(await us.call(to(ASSUME)), Answered)


async def test_keys_that_aws_refuses_are_read_again(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id=AKIAOLD\naws_secret_access_key=old\n")
    async with world(("AKIANEW", "new"), clock) as (us, server):
        assert failed(await us.call(to(ASSUME))) == ("AssumeRole", "InvalidClientTokenId", 403)
        (tmp_path / "credentials").write_text("[default]\naws_access_key_id=AKIANEW\naws_secret_access_key=new\n")
        clock.epoch += 5
        assert isinstance(await us.call(to(ASSUME)), Answered)
        assert server.assumed[-1].access_key == "AKIANEW"


async def test_our_own_credentials_are_checked_without_a_destination(tmp_path: Path) -> None:
    clock, keys = Clock(), tmp_path / "credentials"
    async with world(("AKIANEW", "new"), clock) as (us, server):

        async def check(secs: float = 60) -> str:
            clock.epoch += secs
            failed = await us.check_own_credentials()
            return "" if failed is None else failed.code

        assert await check() == BASE_CREDENTIALS_MISSING
        keys.write_text("[default]\naws_access_key_id=AKIAOLD\naws_secret_access_key=old\n")
        assert await check() == "InvalidClientTokenId"
        refusal = Rule(CallError(503, "ServiceUnavailable", "busy"), Match(operation="GetCallerIdentity"))
        server.set_plan([refusal])
        assert await check() == "InvalidClientTokenId", "an STS that does not answer says nothing new"
        server.set_plan([])
        keys.write_text("[default]\naws_access_key_id=AKIANEW\naws_secret_access_key=new\n")
        assert await check() == ""
        server.set_plan([refusal])
        assert await check() == ""
        assert not server.assumed


async def test_a_denied_identity_is_found_by_the_check(base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, server):
        denied = [AssumeRole(f"arn:aws:iam::{123456789013 + n}:role/Writer", "ext") for n in range(2)]
        us.destinations = lambda: [destination(auth=auth) for auth in denied]
        await us.call(to(denied[0], "dst_0"))
        failed = await us.check_own_credentials()
        assert failed is not None
        assert (failed.operation, failed.code) == ("AssumeRole", "BaseCredentialsDenied")
        assert isinstance(await us.call(to(ASSUME)), Answered)
        assert await us.check_own_credentials() is None
        assert len(server.assumed) == 3


async def test_callers_share_one_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "keys.sh"
    script.write_text(
        f'echo look >> {tmp_path}/looks; sleep 0.3; echo \'{{"Version": 1, "AccessKeyId": "A", '
        f'"SecretAccessKey": "s"}}\'\n'
    )
    (tmp_path / "config").write_text(f"[profile p]\ncredential_process=/bin/sh {script}\n")
    monkeypatch.setenv("AWS_PROFILE", "p")
    own = OwnKeys(Clock().now)
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(own.keys()) for _ in range(20)]
    assert {type(task.result()) for task in asked} == {Keys}
    assert len({id(task.result()) for task in asked}) == 1
    assert (tmp_path / "looks").read_text() == "look\n"


async def test_a_chain_that_hangs_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float], hang: Path
) -> None:
    (tmp_path / "config").write_text(f"[profile p]\ncredential_process=/bin/sh {hang}\n")
    monkeypatch.setenv("AWS_PROFILE", "p")
    own = OwnKeys(Clock().now)
    first = await own.keys()
    assert isinstance(first, CallFailed)
    assert "not found yet" in first.message
    assert await own.keys() == first
    assert waits[1] < 2, "every call to a bus has this long"


async def test_valid_keys_serve_during_a_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hang: Path) -> None:
    script, clock = tmp_path / "keys.sh", Clock()
    script.write_text('echo \'{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s"}\'\n')
    (tmp_path / "config").write_text(f"[profile p]\ncredential_process=/bin/sh {script}\n")
    monkeypatch.setenv("AWS_PROFILE", "p")
    own = OwnKeys(clock.now)
    good = await own.keys()
    assert isinstance(good, Keys)
    script.write_text(f"exec /bin/sh {hang}\n")
    own.refused(good)
    clock.epoch += 5
    assert await own.keys() is good


@pytest.mark.parametrize("auth", [ASSUME, GOOD_KEY])
@pytest.mark.parametrize("broken", ["AWS_CONFIG_FILE", "AWS_CA_BUNDLE"])
async def test_unusable_aws_settings_are_our_fault(
    broken: str, auth: Auth, base_credentials: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").write_text("no { ini\n")
    monkeypatch.setenv(broken, str(tmp_path / "broken"))
    async with world(base_credentials) as (us, server):
        assert is_ours_alone(await us.call(to(auth)))
        assert server.counts()["connections"] == 0


@pytest.mark.parametrize("auth", [ASSUME, GOOD_KEY])
async def test_an_unknown_region_is_not_our_fault(auth: Auth, base_credentials: tuple[str, str]) -> None:
    async with world(base_credentials) as (us, _):
        reply = await us.call(batch(modified(destination(auth=auth), region="no region")))
        assert failed(reply) == ("PutEvents", "InvalidRegionError", None)
