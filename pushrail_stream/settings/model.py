"""The settings themselves: sections, keys, defaults and bounds (CONTRACTS.md, "Settings")."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, WithJsonSchema, field_validator

from pushrail_stream.core.destination import DEFAULT_FLUSH_MS, DEFAULT_MAX_IN_FLIGHT, RetryBounds
from pushrail_stream.formats.decoding import EventFormat
from pushrail_stream.settings.client import ClientProperties
from pushrail_stream.settings.eventbridge import MAX_ENTRIES, MAX_REQUEST_BYTES
from pushrail_stream.settings.values import KMS_KEY_ARN, PARTNER_NAMESPACE, REGION, TOPIC, VARIABLE, VENDOR, whole

_KMS: Final = "aws-kms:"


def _check_endpoint(url: str) -> str:
    try:
        parts = urlsplit(url)
        legal = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        legal = False
    if not legal:
        raise ValueError("must be an address such as https://host:port")
    if "@" in parts.netloc:
        raise ValueError("must not carry a user name or password")
    return url


def _check_keyring(where: str) -> str:
    if where.lstrip().startswith("{") or not where.isprintable():
        raise ValueError("must say where the keyring is, not what it holds: a path, env:NAME or aws-kms:ARN")
    if where.startswith(_KMS) and not KMS_KEY_ARN.pattern.fullmatch(where.removeprefix(_KMS)):
        raise ValueError("must name a KMS key by its ARN: aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID")
    if where.startswith("env:") and not VARIABLE.pattern.fullmatch(where):
        raise ValueError("must name an environment variable in capitals: env:NAME")
    return _check_text(where)


def _check_text(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


Text = Annotated[str, AfterValidator(_check_text), WithJsonSchema({"type": "string", "pattern": r"\S"})]
Topic = Annotated[str, TOPIC]
Endpoint = Annotated[
    str,
    AfterValidator(_check_endpoint),
    WithJsonSchema({"type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^@/?#]+(?:[/?#]|$)"}),
]
Keyring = Annotated[
    str,
    AfterValidator(_check_keyring),
    WithJsonSchema({
        "type": "string",
        "pattern": f"{whole(_KMS + KMS_KEY_ARN.pattern.pattern)}|{whole(VARIABLE.pattern.pattern)}"
        r"|^(?!aws-kms:|env:|\s*\{).*\S",
    }),
]  # fmt: skip
FilePath = Annotated[Path, WithJsonSchema({"type": "string"})]
Seconds = Annotated[float, Field(gt=0, le=604_800, allow_inf_nan=False)]
"""More than 0 and at most a week: Kafka keeps the offsets of an idle group no longer."""
Port = Annotated[int, Field(ge=0, le=65_535)]
"""0 lets the system choose."""


class _Section(BaseModel):
    # Defaults are validated too: a rule between two keys holds whichever of them was set.
    # A section is built when it is first used, which takes longer than a command's help.
    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True, defer_build=True
    )


class KafkaAuthSettings(_Section):
    """A login that librdkafka does not have by itself. `KafkaSettings.client` configures the others."""

    method: Literal["msk_iam"]
    """Amazon MSK by IAM, with the credentials of AWS's standard chain."""
    region: Annotated[str, REGION]
    """The region of the MSK cluster."""


class KafkaSettings(_Section):
    """The Kafka cluster and the consumer group."""

    bootstrap_servers: Text = "localhost:9092"
    group_id: Text = "pushrail-stream"
    group_protocol: Literal["classic", "consumer"] = "classic"
    group_instance_id: Text | None = None
    """Static membership. Each of several workers of one command appends its number."""
    start: Literal["earliest", "latest", "refuse"] | None = None
    """The start of a group that has never committed an offset; None: `run` asks on a terminal, else the earliest."""
    auth: KafkaAuthSettings | None = None
    client: ClientProperties = Field(default_factory=lambda: ClientProperties({}))

    @field_validator("client")
    @classmethod
    def _check_login(cls, client: ClientProperties, info: ValidationInfo) -> ClientProperties:
        logins = client.logins()
        if info.data.get("auth") is not None and logins:
            raise ValueError(f"{logins[0]} cannot be set with kafka.auth, which decides the login")
        return client

    @field_validator("client")
    @classmethod
    def _check_protocol(cls, client: ClientProperties, info: ValidationInfo) -> ClientProperties:
        clashes = client.clashes_with_consumer_protocol()
        if info.data.get("group_protocol") == "consumer" and clashes:
            raise ValueError(f"{clashes[0]} cannot be set with group_protocol consumer: the brokers decide it")
        return client


class TopicsSettings(_Section):
    """Names of the topics (CONTRACTS.md, "Topics")."""

    events: Topic = "pushrail.events"
    dlq: Topic = "pushrail.dlq"
    attempts: Topic = "pushrail.attempts"
    destinations: Topic = "pushrail.destinations"
    replays: Topic = "pushrail.replays"
    workers: Topic = "pushrail.workers"
    control: Topic = "pushrail.control"
    cursors: Topic = "pushrail.cursors"
    notices: Topic = "pushrail.notices"
    audit: Topic = "pushrail.audit"
    retry: Annotated[Mapping[Topic, Seconds], Field(min_length=1)] = {
        "pushrail.retry.10s": 10,
        "pushrail.retry.2m": 120,
        "pushrail.retry.30m": 1800,
    }
    """Topic to delay in seconds."""

    @field_validator(
        "dlq", "attempts", "destinations", "replays", "workers", "control", "cursors", "notices", "audit", "retry"
    )
    @classmethod
    def _check_distinct(cls, value: str | Mapping[str, float], info: ValidationInfo) -> str | Mapping[str, float]:
        # Kafka names metrics with '_' for '.', and so refuses to create two topics that differ in that alone.
        taken = {str(name).replace(".", "_"): f"topics.{key}" for key, name in info.data.items()}
        for name in [value] if isinstance(value, str) else value:
            other = taken.setdefault(name.replace(".", "_"), name)
            if other is not name:
                what = "" if isinstance(value, str) else f"{name} "
                raise ValueError(f"{what}cannot be told apart from {other}: every topic needs a name of its own")
        return value

    @field_validator("retry")
    @classmethod
    def _put_in_order(cls, retry: Mapping[str, float]) -> Mapping[str, float]:
        # A delivery climbs them by their delays. The order of a mapping means nothing: what writes YAML may sort it.
        ordered = sorted(retry.items(), key=lambda tier: tier[1])
        for (one, delay), (other, same) in pairwise(ordered):
            if delay == same:
                raise ValueError(f"{one} and {other} have one delay ({delay:g}): every tier waits longer than the last")
        return dict(ordered)


class EventsSettings(_Section):
    """The format of the records of ``topics.events``."""

    format: EventFormat = "canonical"


class RegistrySettings(_Section):
    """The place of destination documents."""

    path: FilePath = Path("destinations")
    topic: bool = False
    """Whether documents are records of ``topics.destinations`` instead of files of ``path``."""


class DeliverySettings(_Section):
    """Batching, retries, and the age at which a delivery is given up."""

    max_entries: Annotated[int, Field(ge=1, le=MAX_ENTRIES)] = MAX_ENTRIES
    """Of a bus that takes fewer, as many as it takes."""
    flush_ms: Annotated[int, Field(ge=0, le=60_000)] = DEFAULT_FLUSH_MS
    max_request_bytes: Annotated[int, Field(ge=1, le=MAX_REQUEST_BYTES)] = 1_000_000
    max_in_flight: Annotated[int, Field(ge=1, le=256)] = DEFAULT_MAX_IN_FLIGHT
    hold_secs: Seconds = 10.0
    max_age_secs: Seconds = 86_400.0
    max_attempts: Annotated[int, Field(ge=1)] | None = None
    backoff_base_secs: Seconds = 0.2
    backoff_cap_secs: Seconds = 20.0
    unrouted: Literal["skip", "dlq"] = "skip"

    @property
    def retry_bounds(self) -> RetryBounds:
        """The bounds of retries, which no document exceeds."""
        return RetryBounds(self.max_age_secs, math.inf if self.max_attempts is None else self.max_attempts)

    @field_validator("backoff_cap_secs")
    @classmethod
    def _check_cap(cls, cap: float, info: ValidationInfo) -> float:
        base = info.data.get("backoff_base_secs")
        if base is not None and cap < base:
            raise ValueError(f"must be at least backoff_base_secs ({base:g})")
        return cap

    @field_validator("hold_secs")
    @classmethod
    def _check_hold(cls, hold: float, info: ValidationInfo) -> float:
        flush_ms = info.data.get("flush_ms")
        if flush_ms is not None and hold * 1000 < flush_ms:
            raise ValueError(f"must not be shorter than flush_ms ({flush_ms})")
        return hold


class LimitsSettings(_Section):
    """Limits of the records that one worker keeps in memory; beyond them its partitions pause."""

    max_buffered_events: Annotated[int, Field(ge=1)] = 20_000
    max_buffered_mib: Annotated[int, Field(ge=1)] = 128


class FloodGuardSettings(_Section):
    """The point at which a worker stops consuming, because most records of many customers become dead letters."""

    enabled: bool = True
    window_secs: Annotated[float, Field(ge=1, le=3_600, allow_inf_nan=False)] = 60.0
    min_dead_letters: Annotated[int, Field(ge=1)] = 200
    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.5
    min_customers: Annotated[int, Field(ge=2)] = 5


class EventBridgeSettings(_Section):
    """Calls to PutEvents. The operator chooses the endpoint, never a customer."""

    endpoint_url: Endpoint | None = None
    """``{region}`` in it stands for the destination's region."""
    v2_endpoint_url: Endpoint | None = None
    """The endpoint of buses of eventbridgev2, in the same form. None: `endpoint_url`."""
    partner_namespace: Annotated[str, PARTNER_NAMESPACE] | None = None
    """The beginning of the names of our event sources as a partner of AWS. None: no document may name a partner's bus,
    for whose calls we sign with our own credentials."""
    connect_timeout_secs: Seconds = 3.0
    read_timeout_secs: Seconds = 5.0

    @property
    def call_secs(self) -> float:
        """The longest that one call may take. A reply that drips in never exceeds the read time-out."""
        return self.connect_timeout_secs + self.read_timeout_secs


class StsSettings(_Section):
    """Calls to STS that assume customers' roles, at the endpoint of our own region."""

    endpoint_url: Endpoint | None = None
    region: Annotated[str, REGION] = "us-east-1"
    session_policy: bool = True
    """Whether each session is confined to its destination's bus."""
    max_calls_per_second: Annotated[float, Field(ge=1, le=600, allow_inf_nan=False)] = 100.0
    """Limit of one worker. STS allows an account 600 a second, in each region and for all its callers."""


class SecretsSettings(_Section):
    """The keyring that opens sealed secrets of destination documents."""

    keyring: Keyring | None = None
    """A file's path, ``env:NAME`` or ``aws-kms:ARN``."""
    kms_endpoint_url: Endpoint | None = None


class HistorySettings(_Section):
    """The search of past attempts."""

    index: FilePath | None = None
    """The file of `attempts index`; None for no index."""


class NoticesSettings(_Section):
    """The notices of workers, besides their topic."""

    webhook_url: Endpoint | None = None
    """An address to which workers also post each notice."""
    webhook_secret: Annotated[str, VARIABLE] | None = None
    """``env:NAME``, a variable with the secret that signs them (Standard Webhooks: ``whsec_`` and base64)."""

    @field_validator("webhook_secret")
    @classmethod
    def _check_secret(cls, secret: str | None, info: ValidationInfo) -> str | None:
        if secret is None and info.data.get("webhook_url") is not None:
            raise ValueError("must name the variable with the secret that signs notices: env:NAME")
        return secret


class AuditSettings(_Section):
    """The record of each command that changes something."""

    enabled: bool = False
    """Whether commands write it. A command that cannot changes nothing."""
    actor: Text | None = None
    """The person or program for whom commands run, beside the user of the system."""


class HttpSettings(_Section):
    """Address of metrics and health. Several workers use consecutive ports, from this one on."""

    host: Text = "127.0.0.1"
    port: Port = 9464


class MetricsSettings(_Section):
    """Metrics of single destinations."""

    max_destinations: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Destinations that have series of their own, the first ones met; the others share one. 0: none has."""


class TracingSettings(_Section):
    """OpenTelemetry spans. The ``OTEL_*`` variables configure their export."""

    enabled: bool = False


class IngestSettings(_Section):
    """Address, API keys and limits of ingest over HTTP."""

    host: Text = "127.0.0.1"
    port: Port = 8080
    keys_file: FilePath = Path("ingest-keys.json")
    """The file with the hashes of API keys, written by ``ingest keys create``."""
    max_body_mib: Annotated[int, Field(ge=1, le=64)] = 8
    max_buffered_mib: Annotated[int, Field(ge=1)] = 64
    """Limit of open requests; one key gets half of it. Beyond it the answer is 503."""
    max_events_per_second: Annotated[int, Field(ge=1)] = 20_000
    """Limit of one API key at each ingest process. Beyond it the answer is 429."""
    timeout_secs: Annotated[float, Field(ge=1, le=60, allow_inf_nan=False)] = 10.0
    """Longest time for a head to arrive, for a body, and for Kafka's acknowledgement."""

    @field_validator("max_buffered_mib")
    @classmethod
    def _check_buffer(cls, buffered: int, info: ValidationInfo) -> int:
        body = info.data.get("max_body_mib")
        if body is not None and buffered < body:
            raise ValueError(f"must hold one body at least (max_body_mib: {body})")
        return buffered


class Settings(_Section):
    """All settings. The class reads no file and no environment; `load_settings` does."""

    vendor: Annotated[str, VENDOR] | None = None
    """The vendor of events whose record has no vendor header. Without it every record needs the header."""
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    topics: TopicsSettings = Field(default_factory=TopicsSettings)
    events: EventsSettings = Field(default_factory=EventsSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    delivery: DeliverySettings = Field(default_factory=DeliverySettings)
    limits: LimitsSettings = Field(default_factory=LimitsSettings)
    flood_guard: FloodGuardSettings = Field(default_factory=FloodGuardSettings)
    eventbridge: EventBridgeSettings = Field(default_factory=EventBridgeSettings)
    sts: StsSettings = Field(default_factory=StsSettings)
    secrets: SecretsSettings = Field(default_factory=SecretsSettings)
    history: HistorySettings = Field(default_factory=HistorySettings)
    notices: NoticesSettings = Field(default_factory=NoticesSettings)
    audit: AuditSettings = Field(default_factory=AuditSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    ingest: IngestSettings = Field(default_factory=IngestSettings)
