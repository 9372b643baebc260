"""Logins on a real Kafka that asks for them: SASL/SCRAM, a client's certificate, OAuth, and Amazon MSK by IAM."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from pushrail_stream import msk_iam
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import KafkaSettings, Settings
from tests.support.builders import event, with_access_key
from tests.support.commands import Desk
from tests.support.kafka.logins import CLIENT_ID, PASSWORD, USER, LoginKafka, login_kafka
from tests.support.workers import make_topics, open_bus, produce, running, settings_for

pytestmark = pytest.mark.kafka

LIFE_SECS: Final = 15
"""A token's life: it is renewed in a test, and the broker ends a session whose token was not. librdkafka renews a token
after 80 % of its life, and a broker lets nobody log in twice within a second."""
EVENTS: Final = 10
OIDC: Final[dict[str, Any]] = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanisms": "OAUTHBEARER",
    "sasl.oauthbearer.method": "oidc",
    "sasl.oauthbearer.client.id": CLIENT_ID,
    "sasl.oauthbearer.client.secret": PASSWORD,
    "sasl.oauthbearer.scope": "kafka",
}
SCRAM: Final[dict[str, Any]] = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanisms": "SCRAM-SHA-512",
    "sasl.username": USER,
    "sasl.password": PASSWORD,
}


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory, real_kafka: str) -> Iterator[LoginKafka]:
    del real_kafka  # skips these tests where no real Kafka can be had
    with login_kafka(tmp_path_factory.mktemp("logins"), LIFE_SECS) as broker:
        yield broker


def section(kafka: LoginKafka, listener: str) -> dict[str, Any]:
    """The settings of Kafka for a listener."""
    if listener == "MSK":
        return kafka.settings(listener) | {"auth": {"method": "msk_iam", "region": "eu-west-1"}}
    own = {
        "SCRAM": SCRAM,
        "MTLS": {
            "security.protocol": "SSL",
            "ssl.certificate.location": str(kafka.client),
            "ssl.key.location": str(kafka.client),
        },
        "OIDC": OIDC | {"sasl.oauthbearer.token.endpoint.url": kafka.issuer.url},
    }
    return kafka.settings(listener, **own[listener])


def settings_of(kafka: LoginKafka, listener: str, bus: FaultBus) -> Settings:
    plain = settings_for(kafka.plain, bus.url)
    values = plain.model_dump(mode="json")
    values["kafka"] |= section(kafka, listener)
    return Settings.model_validate(values)


@pytest.fixture
def own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own credentials, in the environment of the commands too, and tokens that end early."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
    monkeypatch.setattr(msk_iam, "_LIFE_SECS", LIFE_SECS)


@pytest.mark.parametrize("listener", ["SCRAM", "MTLS", "OIDC", "MSK"])
@pytest.mark.usefixtures("own_keys")
async def test_a_worker_and_commands_log_in(kafka: LoginKafka, listener: str, tmp_path: Path) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_of(kafka, listener, bus)
        plain = settings.model_copy(update={"kafka": KafkaSettings(bootstrap_servers=kafka.plain)})
        await asyncio.to_thread(make_topics, plain)
        open_bus(bus, [0])
        asked = len(kafka.issuer.asked)
        async with running(settings, [with_access_key(0)]) as worker:
            for number in range(EVENTS):
                await produce(plain, [("acct_0", event(0, number))])
                await worker.settled(number + 1)
                if listener in {"OIDC", "MSK"}:
                    await asyncio.sleep(1.3 * LIFE_SECS / EVENTS)
        assert len(bus.arrivals) == EVENTS, "each once"
        if listener == "OIDC":
            assert len(kafka.issuer.asked) > asked
            assert {tuple(form["grant_type"]) for form in kafka.issuer.asked} == {("client_credentials",)}
        desk = Desk(tmp_path, settings, client=section(kafka, listener)["client"])
        desk.put([with_access_key(0)])
        told = await desk.ask("check", "--since", "1h")
        assert (told["events"], told["deliveries"]["delivered"]) == (EVENTS, EVENTS)
        assert len(await desk.lines("topics", "describe")) > 0


@pytest.mark.parametrize(
    ("listener", "changes", "why"),
    [
        ("SCRAM", {"sasl.password": "wrong"}, "Authentication failed"),
        ("MTLS", {"ssl.certificate.location": "", "ssl.key.location": ""}, "bad certificate"),
        ("OIDC", {"sasl.oauthbearer.client.secret": "wrong"}, "invalid_client"),
    ],
)
async def test_a_refused_login_is_told(
    kafka: LoginKafka, listener: str, changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_of(kafka, listener, bus)
        client = {n: v for n, v in (section(kafka, listener)["client"] | changes).items() if v != ""}
        told = await Desk(tmp_path, settings, client=client).run("topics", "describe", exit_code=1)
        assert why in told


async def test_without_credentials_of_our_own_the_login_to_msk_is_told(
    kafka: LoginKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    async with FaultBus.serve() as bus:
        settings = settings_of(kafka, "MSK", bus)
        desk = Desk(tmp_path, settings, client=section(kafka, "MSK")["client"])
        told = await desk.run("topics", "describe", exit_code=1)
        assert told == "error: kafka.auth: there is no token for Amazon MSK: AWS's standard chain has no credentials\n"
