"""The destination document: its JSON form, its rules, its `Destination` (CONTRACTS.md, "The destination document")."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from pushrail_stream.core.destination import (
    DEFAULT_FLUSH_MS,
    CustomerBus,
    Destination,
    DetailFormat,
    Limits,
    RetryBounds,
    Secret,
)
from pushrail_stream.patterns import PatternError
from pushrail_stream.ports.secrets import KeyUnavailable
from pushrail_stream.registry import rules
from pushrail_stream.registry.json_document import SECRET_FIELD, Problem, masked, printable, read_json
from pushrail_stream.registry.keyring import SealBroken, unseal_without_keyring
from pushrail_stream.registry.partner import AUTH_BY_TYPE, check_auth, partner_problem
from pushrail_stream.registry.sealing import Place, Token
from pushrail_stream.settings.event_filter import EventFilter
from pushrail_stream.settings.eventbridge import (
    CLASSIC,
    PARTNER,
    AccessKey,
    AssumeRole,
    Auth,
    OwnIdentity,
    auth_of,
    flavour_of,
)
from pushrail_stream.settings.problems import did_you_mean, sentence
from pushrail_stream.settings.values import Arn, partition_of

NO_CREDENTIALS: Final = AccessKey("", None)
"""The credentials of a destination whose document is refused: no call is made."""
_NO_BUS: Final = "arn:aws:events:us-east-1:000000000000:event-bus/unknown"
_UNBOUNDED: Final = RetryBounds()
Unseal = Callable[[str, Place], Secret]
"""From a token and its place to the secret; raises `keyring.SealBroken` or `ports.KeyUnavailable`."""


class Parsed(NamedTuple):
    """The destination of a document, with its caveats."""

    destination: Destination
    caveats: tuple[Problem, ...] = ()
    locked: Problem | None = None
    """Why its sealed secret does not open: nothing is sent."""

    @property
    def may_open_later(self) -> bool:
        """Whether only the key to its sealed secret is missing."""
        return isinstance(self.destination.bus.auth, AccessKey) and self.destination.bus.auth.is_waiting


class _Part(BaseModel):
    # Strict: in JSON a number is a number and "true" is not true.
    model_config = ConfigDict(
        defer_build=True, strict=True, frozen=True, extra="forbid", hide_input_in_errors=True, alias_generator=to_camel
    )


class _AssumeRole(_Part):
    mode: Literal["ASSUME_ROLE"]
    role_arn: rules.RoleArn
    external_id: rules.ExternalId


class _AccessKey(_Part):
    mode: Literal["ACCESS_KEY"]
    access_key_id: rules.AccessKeyId
    secret_access_key: rules.SecretReference = Field(repr=False)


class _Limits(_Part):
    max_requests_per_second: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] | None = None
    max_in_flight: Annotated[int, Field(ge=1, le=256)] | None = None
    flush_ms: Annotated[int, Field(ge=0, le=60_000)] | None = None


class _Retry(_Part):
    max_age_secs: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    max_attempts: Annotated[int, Field(ge=1, le=1_000)] | None = None


_PARTS: Final[Mapping[str, type[_Part]]] = {
    "ASSUME_ROLE": _AssumeRole,
    "ACCESS_KEY": _AccessKey,
    "limits": _Limits,
    "retry": _Retry,
}
"""The parts of a document, by their names in pydantic's paths."""


class DocumentModel(_Part):
    """A destination document: its fields, each with its rule."""

    model_config = ConfigDict(json_schema_extra=AUTH_BY_TYPE)

    id: rules.Id
    vendor: rules.Vendor
    customer_external_id: rules.CustomerExternalId
    type: rules.Type
    name: rules.Name | None = None
    bus_arn: rules.BusArn
    region: rules.Region
    source_namespace: rules.SourceNamespace | None = None
    auth: Annotated[
        Annotated[_AssumeRole | _AccessKey, Field(discriminator="mode")] | None, AfterValidator(check_auth)
    ] = Field(default=None, validate_default=True)
    event_types: Annotated[list[rules.EventType], Field(min_length=1, max_length=100)] | None = None
    enabled: bool = True
    paused: bool = False
    limits: _Limits = _Limits()
    detail_format: DetailFormat = "canonical"
    retry: _Retry = _Retry()
    filter: rules.Filter | None = None


class _Known(_Part):
    """The fields of a refused document that its stand-in needs."""

    model_config = ConfigDict(extra="ignore")

    id: rules.Id
    vendor: rules.Vendor
    customer_external_id: rules.CustomerExternalId
    type: rules.Type = CLASSIC.type
    bus_arn: rules.BusArn = _NO_BUS
    event_types: Annotated[list[rules.EventType], Field(max_length=100)] = []
    enabled: bool = True
    paused: bool = False
    filter: rules.Filter | None = None
    detail_format: DetailFormat = "canonical"
    source_namespace: rules.SourceNamespace | None = None


def parse_document(
    content: bytes,
    *,
    environ: Mapping[str, str],
    default_max_in_flight: int,
    default_flush_ms: int = DEFAULT_FLUSH_MS,
    retry_bounds: RetryBounds = _UNBOUNDED,
    partner_namespace: str | None = None,
    unseal: Unseal = unseal_without_keyring,
) -> Parsed | tuple[Problem, ...]:
    """The destination of a document, or all its problems. Raises nothing.

    A secret named by ``env:NAME`` comes from ``environ``, and a sealed one is decrypted. If that fails, the destination
    has no secret. ``retry_bounds``, ``partner_namespace``: the settings' own.
    """
    value = read_json(content)
    if isinstance(value, Problem):
        return (value,)
    try:
        document = DocumentModel.model_validate(value)
    except ValidationError as error:
        return tuple(_problem(details) for details in error.errors())
    if problem := _disagreement(document, partner_namespace):
        return (problem,)
    limits = Limits(
        max_requests_per_second=document.limits.max_requests_per_second,
        max_in_flight=document.limits.max_in_flight or default_max_in_flight,
        flush_ms=default_flush_ms if document.limits.flush_ms is None else document.limits.flush_ms,
    )
    return _build(document, limits, retry_bounds, environ, unseal)


def stand_in(content: bytes) -> Destination | None:
    """The stand-in of a refused document, without credentials; None if the document does not tell its customer."""
    value = read_json(content)
    fields = value if isinstance(value, dict) else {}
    try:
        known = _Known.model_validate(fields)
    except ValidationError as error:
        wrong = {details["loc"][0] for details in error.errors()}
        if wrong & {"id", "vendor", "customerExternalId"}:
            return None
        known = _Known.model_validate({name: field for name, field in fields.items() if name not in wrong})
    return Destination(
        id=known.id,
        vendor=known.vendor,
        customer_external_id=known.customer_external_id,
        name=known.id,
        bus=CustomerBus(_type_of(known), known.bus_arn, Arn.of(known.bus_arn).region, NO_CREDENTIALS),
        source=_source_of(known),
        event_types=tuple(known.event_types),
        enabled=known.enabled,
        paused=known.paused,
        filter=_filter_of(known),
    )


def raw_text(content: bytes) -> str | Problem:
    """The text of a document, with each value masked that the reader refuses: it may be a secret in the wrong place.

    A `Problem` when the document cannot be parsed.
    """
    value = read_json(content)
    if isinstance(value, Problem):
        return value
    try:
        auth = DocumentModel.model_validate(value).auth
    except ValidationError as error:
        return masked(content.decode(), (_path(found) for found in error.errors() if found["type"] != "missing"))
    # A sealed secret that is none may be the secret itself behind the word.
    reference = auth.secret_access_key if isinstance(auth, _AccessKey) else ""
    is_odd = rules.is_sealed(reference) and Token.parse(reference) is None
    return masked(content.decode(), [SECRET_FIELD.split(".")] if is_odd else [])


def to_document(destination: Destination) -> dict[str, Any]:
    """The document of a destination with every default and a masked secret: for output, not for storage."""
    limits = destination.limits
    return {
        "id": destination.id,
        "vendor": destination.vendor,
        "customerExternalId": destination.customer_external_id,
        "type": destination.bus.type,
        "name": destination.name,
        "busArn": destination.bus.arn,
        "region": destination.bus.region,
        "sourceNamespace": None if destination.bus.type == PARTNER.type else destination.source,
        "auth": auth_of(destination).document(),
        "eventTypes": list(destination.event_types) or ["*"],
        "enabled": destination.enabled,
        "paused": destination.paused,
        "limits": {
            "maxRequestsPerSecond": limits.max_requests_per_second,
            "maxInFlight": limits.max_in_flight,
            "flushMs": limits.flush_ms,
        },
        "detailFormat": destination.detail_format,
        "filter": destination.filter.pattern if isinstance(destination.filter, EventFilter) else None,
        "retry": {
            "maxAgeSecs": _finite(destination.retry.max_age_secs),
            "maxAttempts": _finite(destination.retry.max_attempts),
        },
    }


def _finite(bound: float) -> float | None:
    return None if bound == math.inf else bound


def _type_of(document: DocumentModel | _Known) -> str:
    return flavour_of(document.type, document.bus_arn).type


def _source_of(document: DocumentModel | _Known) -> str:
    if document.type == PARTNER.type:
        return Arn.of(document.bus_arn).name
    return document.source_namespace or f"pushrail.{document.vendor}"


def _filter_of(document: DocumentModel | _Known) -> EventFilter | None:
    if document.filter is None:
        return None
    source, form = _source_of(document), document.detail_format
    return EventFilter(document.filter, bus_arn=document.bus_arn, source=source, detail_format=form)


def _path(error: Mapping[str, Any]) -> tuple[Any, ...]:
    # pydantic puts the discriminator's value into the path of what lies below it.
    loc: tuple[Any, ...] = error["loc"]
    return loc[:1] + loc[2:] if loc[:1] == ("auth",) else loc


def _problem(error: Mapping[str, Any]) -> Problem:
    parts = _path(error)
    path = [printable(str(part)) for part in parts]
    if error["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        return Problem(".".join([*path, "mode"]), "must be ASSUME_ROLE or ACCESS_KEY")
    if error["type"] == "extra_forbidden":
        part = _PARTS.get(str(error["loc"][-2]), DocumentModel) if len(parts) > 1 else DocumentModel
        known = [str(info.alias) for info in part.model_fields.values()]
        return Problem(".".join(path), "unknown field" + did_you_mean(path[-1], known))
    problem = error.get("ctx", {}).get("error")
    if isinstance(problem, PatternError):
        return Problem(".".join(filter(None, [*path, printable(problem.path)])), problem.problem)
    if path == ["eventTypes"] and error["type"] == "too_short":
        return Problem("eventTypes", "must not be empty: leave it out to take every event type")
    what = (
        "must be a JSON object"
        if error["type"] in {"model_type", "model_attributes_type", "dict_type"}
        else sentence(error)
    )
    return Problem(".".join(path), what)


def _disagreement(document: DocumentModel, partner_namespace: str | None) -> Problem | None:
    """Fields that are valid alone and contradict each other."""
    partition, _, region, *_ = Arn.of(document.bus_arn)
    if document.region != region:
        return Problem("region", f"is {document.region}, but the bus is in {region} (busArn)")
    if partition_of(region) != partition:
        return Problem("busArn", f"is of the partition {partition}, but {region} belongs to {partition_of(region)}")
    if isinstance(document.auth, _AssumeRole) and Arn.of(document.auth.role_arn).partition != partition:
        return Problem("auth.roleArn", f"is of another partition than the bus ({partition})")
    is_partner = document.type == PARTNER.type
    return partner_problem(document.bus_arn, document.source_namespace, partner_namespace) if is_partner else None


def _build(
    document: DocumentModel, limits: Limits, bounds: RetryBounds, environ: Mapping[str, str], unseal: Unseal
) -> Parsed:
    place = Place(document.vendor, document.id, SECRET_FIELD)
    auth, caveats, locked = _sign_in(document.auth, place, environ, unseal)
    destination = Destination(
        id=document.id,
        vendor=document.vendor,
        customer_external_id=document.customer_external_id,
        name=document.name or document.id,
        bus=CustomerBus(_type_of(document), document.bus_arn, document.region, auth),
        source=_source_of(document),
        event_types=tuple(document.event_types or ()),
        enabled=document.enabled,
        paused=document.paused,
        limits=limits,
        detail_format=document.detail_format,
        retry=RetryBounds(
            math.inf if document.retry.max_age_secs is None else document.retry.max_age_secs,
            math.inf if document.retry.max_attempts is None else document.retry.max_attempts,
        ),
        filter=_filter_of(document),
    )
    return Parsed(destination, (*caveats, *_beyond(bounds, document.retry)), locked)


def _beyond(bounds: RetryBounds, part: _Retry) -> Iterator[Problem]:
    """The document's bounds that have no effect, because those of the settings are narrower."""
    for name, own, most in (
        ("max_age_secs", part.max_age_secs, bounds.max_age_secs),
        ("max_attempts", part.max_attempts, bounds.max_attempts),
    ):
        if own is not None and own > most:
            yield Problem(f"retry.{to_camel(name)}", f"is {own:g}, but delivery.{name} allows {most:g}, which holds")


def _sign_in(
    part: _AssumeRole | _AccessKey | None, place: Place, environ: Mapping[str, str], unseal: Unseal
) -> tuple[Auth, tuple[Problem, ...], Problem | None]:
    """The way to sign in, its caveats, and why its sealed secret does not open."""
    match part:
        case None:
            return OwnIdentity(), (), None
        case _AssumeRole():
            return AssumeRole(part.role_arn, part.external_id), (), None
        case _AccessKey(access_key_id=key_id, secret_access_key=reference) if rules.is_sealed(reference):
            try:
                return AccessKey(key_id, unseal(reference, place)), (), None
            except (SealBroken, KeyUnavailable) as error:
                is_waiting = isinstance(error, KeyUnavailable)
                return AccessKey(key_id, None, is_waiting), (), Problem(SECRET_FIELD, str(error))
        case _AccessKey():
            variable = part.secret_access_key.removeprefix("env:")
            if secret := environ.get(variable, "").strip():
                return AccessKey(part.access_key_id, Secret(secret)), (), None
            problem = Problem(SECRET_FIELD, f"environment variable {variable} is not set: nothing is sent")
            return AccessKey(part.access_key_id, None), (problem,), None
