"""STS: one call, one answer. Every failure, and every answer that is not from STS, is a value, never an exception.

The caller gives the keys that sign a call: no client of AWS's library looks for credentials here. Names of botocore
that this file relies on: ``botocore.auth.SigV4Auth`` and the ``query`` parser of ``botocore.parsers``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar, final
from urllib.parse import urlencode

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.parsers import create_parser

from pushrail_stream.core.text import safe_message
from pushrail_stream.eventbridge.error_codes import AWS_SETTINGS_UNUSABLE, CallFailed
from pushrail_stream.eventbridge.http import Http, HttpReply, StockClients, safe_id
from pushrail_stream.eventbridge.signing import Keys, checked_keys
from pushrail_stream.settings.model import StsSettings

if TYPE_CHECKING:
    from aiobotocore.client import AioBaseClient

Action = Literal["AssumeRole", "GetCallerIdentity"]

SESSION_SECS: Final = 3600
"""Life of a role's session. AWS caps the session of a role that another role assumes at one hour (IAM User Guide,
"Methods to assume a role")."""
_VERSION: Final = "2011-06-15"
"""``apiVersion`` of the botocore service model ``sts``."""
_CONTENT_TYPE: Final = "application/x-www-form-urlencoded; charset=utf-8"
_COLONS_OF_AN_ARN: Final = 5
_OK: Final = 200
_MAX_REPLY_BYTES: Final = 64 << 10
"""Bytes of a reply that are parsed. STS's replies stay below 16 KiB, and 4 MiB of XML take the parser seconds, in which
nothing else is delivered."""
_CODE: Final = re.compile(r"[\w.-]{1,128}", re.ASCII)
"""Shape of AWS's error codes. Any other text in their place comes from a proxy."""


_Read = TypeVar("_Read", "RoleSession", "Identity")


class RoleSession(NamedTuple):
    """The session that AssumeRole returned."""

    keys: Keys
    expires_at: float
    """Epoch seconds."""


class Identity(NamedTuple):
    """The identity behind a pair of keys."""

    account: str
    arn: str

    @property
    def partition(self) -> str:
        """As ARNs name it (``aws``, ``aws-cn``, ...). No role of another partition can be assumed."""
        return self.arn.split(":")[1]


def assume_role_request(role_arn: str, external_id: str | None, name: str, policy: str | None) -> dict[str, str]:
    """The parameters of AssumeRole. ``name`` is the session's; ``policy`` narrows the role's own policies."""
    request = {"RoleArn": role_arn, "RoleSessionName": name, "DurationSeconds": str(SESSION_SECS)}
    if external_id is not None:
        request["ExternalId"] = external_id
    if policy is not None:
        request["Policy"] = policy
    return request


@final
class StsEndpoint:
    """STS of one region. Made by `StsEndpoint.open`; lives as long as the stock clients."""

    def __init__(self, client: AioBaseClient, http: Http, user_agent: str) -> None:
        self._region: str = client.meta.region_name
        self._model: Any = client.meta.service_model
        self._http = http
        self._user_agent = user_agent
        self._parser = create_parser("query")

    @classmethod
    async def open(cls, settings: StsSettings, clients: StockClients) -> StsEndpoint | CallFailed:
        """The endpoint that a stock client would call, or the reason why there is none. No call is made."""
        try:
            client = await clients.open("sts", settings.region, settings.endpoint_url)
            http = await Http.of(client, client.meta.endpoint_url, clients)
        except Exception as error:  # noqa: BLE001 - settings, environment and files make botocore raise almost anything
            problem = f"STS of {settings.region} cannot be called: {type(error).__name__}: {error}"
            return CallFailed("Credentials", AWS_SETTINGS_UNUSABLE, safe_message(problem))
        return cls(client, http, clients.user_agent)

    async def assume_role(self, keys: Keys, request: Mapping[str, str]) -> RoleSession | CallFailed:
        """Open a session of a role. ``keys`` sign the call."""
        return await self._ask("AssumeRole", keys, request, _session)

    async def caller_identity(self, keys: Keys) -> Identity | CallFailed:
        """The identity of ``keys``."""
        return await self._ask("GetCallerIdentity", keys, {}, _identity)

    async def date(self) -> str | CallFailed | None:
        """The ``Date`` header of STS's refusal of an unsigned call; None when there is none."""
        reply = await self._http.post("GetCallerIdentity", {"Content-Type": _CONTENT_TYPE}, b"")
        return reply if isinstance(reply, CallFailed) else reply.header(b"date")

    async def _ask(
        self, action: Action, keys: Keys, request: Mapping[str, str], read: Callable[[dict[str, Any]], _Read | str]
    ) -> _Read | CallFailed:
        """``read`` takes the parsed reply and returns the answer, or the problem with it."""
        body = urlencode({"Action": action, "Version": _VERSION, **request}).encode()
        reply = await self._http.post(action, self._headers(keys, body), body)
        if isinstance(reply, CallFailed):
            return reply
        parsed, problem = self._parse(action, reply)
        if reply.status != _OK:
            return _refusal(action, reply, parsed)
        answer = problem or read(parsed)
        return reply.unreadable(action, f"that is no answer of STS ({answer})") if isinstance(answer, str) else answer

    def _parse(self, action: Action, reply: HttpReply) -> tuple[dict[str, Any], str]:
        """The parsed reply, and the problem with it as an answer."""
        if len(reply.content) > _MAX_REPLY_BYTES:
            return {}, "too long"
        output = self._model.operation_model(action).output_shape
        try:
            parsed: dict[str, Any] = self._parser.parse(reply.for_parser(), output)
        except Exception as error:  # noqa: BLE001 - a parser raises anything for a body that it does not expect
            return {}, type(error).__name__
        return parsed, "an error" if "Error" in parsed else ""

    def _headers(self, keys: Keys, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": _CONTENT_TYPE, "User-Agent": self._user_agent, "Accept-Encoding": "identity"}
        request = AWSRequest("POST", self._http.url, headers, body)
        token = keys.token.reveal() if keys.token else None
        SigV4Auth(Credentials(keys.access_key_id, keys.secret.reveal(), token), "sts", self._region).add_auth(request)
        return dict(request.headers.items())


def _session(parsed: dict[str, Any]) -> RoleSession | str:
    credentials = parsed.get("Credentials")
    if not isinstance(credentials, dict):
        return "no Credentials"
    token, expiration = credentials.get("SessionToken"), credentials.get("Expiration")
    keys = checked_keys(credentials.get("AccessKeyId"), credentials.get("SecretAccessKey"), token)
    if isinstance(keys, str) or token is None:
        return keys if isinstance(keys, str) else "the session token is missing"
    expires_at = _epoch_secs(expiration)
    return "no Expiration" if expires_at is None else RoleSession(keys, expires_at)


def _epoch_secs(moment: object) -> float | None:
    """Epoch seconds of a time with an offset; None for anything else.

    The parser takes offsets of any size, which raise only when they are used.
    """
    try:
        return moment.timestamp() if isinstance(moment, datetime) and moment.utcoffset() is not None else None
    except (ValueError, OverflowError):
        return None


def _identity(parsed: dict[str, Any]) -> Identity | str:
    account, arn = parsed.get("Account"), parsed.get("Arn")
    if not isinstance(account, str) or not isinstance(arn, str) or arn.count(":") < _COLONS_OF_AN_ARN:
        return "no identity"
    return Identity(account, arn)


def _refusal(action: Action, reply: HttpReply, parsed: dict[str, Any]) -> CallFailed:
    """The failure in a reply other than 200. Without an error code of AWS, the status is the code."""
    said = parsed.get("Error")
    error: dict[str, Any] = said if isinstance(said, dict) else {}
    code, message = error.get("Code"), error.get("Message")
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        code = str(reply.status)
    text = safe_message(message) if isinstance(message, str) else ""
    request_id = reply.request_id or safe_id(parsed.get("ResponseMetadata", {}).get("RequestId"))
    return CallFailed(action, code, text, reply.status, request_id)
