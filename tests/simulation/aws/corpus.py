"""Garbled answers: status x headers x body, for each API, as proxies, meshes, firewalls and broken servers give them.

No garbled answer carries a code by which AWS blames a customer, so the blame is always AWS's (or the network's). An
answer that repeats event ids is only given for a call that was carried out: `keeps_ids` tells which bodies do.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final, NamedTuple

import orjson

from tests.simulation.aws.answers import Answer
from tests.simulation.aws.records import Api

Headers = tuple[tuple[str, str], ...]

STATUSES: Final = (
    200, 200, 200, 100, 101, 103,
    201, 202, 204, 206, 226, 299, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 407,
    408, 409, 411, 421, 425, 426, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 507, 511, 520, 522, 530, 599, 600,
    700, 999,
)  # fmt: skip
"""200 stands there three times: it tempts a client to believe. 413 is missing: it means the same from a proxy as from
AWS, that the entry is too large. After 100 and 103 a client waits for the answer itself, which never comes."""

_JSON: Final = ("Content-Type", "application/x-amz-json-1.1")
HEADERS: Final[Mapping[str, Headers]] = {
    "plain": (_JSON,),
    "none": (),
    "html": (("Content-Type", "text/html; charset=utf-8"), ("Server", "nginx")),
    "xml": (("Content-Type", "text/xml"),),
    "utf16": (("Content-Type", "application/json; charset=utf-16"),),
    "unknown_charset": (("Content-Type", "application/json; charset=klingon"),),
    "broken_type": (("Content-Type", ";;;=/"),),
    "gzip_that_lies": (_JSON, ("Content-Encoding", "gzip")),
    "deflate_that_lies": (_JSON, ("Content-Encoding", "deflate")),
    "unknown_coding": (_JSON, ("Content-Encoding", "zip, br")),
    "redirect": (("Location", "http://elsewhere.sim/login"),),
    "redirect_to_itself": (("Location", "/"),),
    "broken_redirect": (("Location", "http://[::1"),),
    "retry_after": (_JSON, ("Retry-After", "99999999999999999999")),
    "cookies": (("Set-Cookie", "a=b; Domain=sim; Path=/"), ("Set-Cookie", "\xff")),
    "sign_in": (("WWW-Authenticate", "Basic realm=proxy"), ("Proxy-Authenticate", "NTLM")),
    "long_request_id": (("x-amzn-RequestId", "x" * 5000),),
    "odd_request_id": (("x-amzn-RequestId", "\xe4\xf6\xfc"),),
    "throttled": (("x-amzn-ErrorType", "ThrottlingException:http://internal.amazon.com/coral/"),),
    "failed": (("x-amzn-ErrorType", "InternalFailure"),),
    "query_error": (("x-amzn-query-error", "ServiceUnavailable;Receiver"),),
    "empty_error": (("x-amzn-ErrorType", ""),),
    "closes": (_JSON, ("Connection", "close")),
    "long_header": (("X-Filler", "y" * 9000),),
    "many_headers": tuple((f"X-{number}", "z") for number in range(150)),
    "length_is_text": (_JSON, ("Content-Length", "many")),
    "length_is_negative": (_JSON, ("Content-Length", "-1")),
    "two_lengths": (_JSON, ("Content-Length", "2"), ("Content-Length", "3")),
    "length_too_small": (_JSON, ("Content-Length", "1")),
    "length_zero": (_JSON, ("Content-Length", "0")),
    "bad_chunks": (_JSON, ("Transfer-Encoding", "chunked")),
    "odd_date": (_JSON, ("Date", "yesterday")),
}
"""Sets of headers by name."""


class Body(NamedTuple):
    """A way to garble the body of the answer that AWS gave."""

    garble: Callable[[bytes, Random], bytes]
    keeps_ids: bool = False
    """Whether event ids of AWS's answer are still in it."""


def _always(text: str | bytes) -> Body:
    content = text.encode() if isinstance(text, str) else text
    return Body(lambda _real, _dice: content)


def _results(change: Callable[[list[Any]], Any]) -> Body:
    """The answer of PutEvents with other ``Entries``."""

    def garble(real: bytes, _dice: Random) -> bytes:
        entries = orjson.loads(real).get("Entries") or []
        return orjson.dumps({"FailedEntryCount": 0, "Entries": change(entries)})

    return Body(garble, keeps_ids=True)


def _in_tag(name: str, text: str) -> Body:
    """An XML answer with other content in one element."""
    pattern = re.compile(rf"<{name}>.*?</{name}>", re.DOTALL)
    return Body(lambda real, _dice: pattern.sub(f"<{name}>{text}</{name}>", real.decode()).encode())


def _without_tag(name: str) -> Body:
    pattern = re.compile(rf"<{name}>.*?</{name}>", re.DOTALL)
    return Body(lambda real, _dice: pattern.sub("", real.decode()).encode())


def _cut(real: bytes, dice: Random) -> bytes:
    return real[: dice.randrange(len(real))] if real else real


def _half_token(real: bytes, _dice: Random) -> bytes:
    return re.sub(rb"(<SessionToken>.{40}).*?(</SessionToken>)", rb"\1\2", real)


_PAGES: Final[Mapping[str, Body]] = {
    "html": _always("<html><head><title>502</title></head><body><h1>Bad Gateway</h1></body></html>"),
    "login_page": _always("<!DOCTYPE html>\n<form action='/login'><input name=password></form>"),
    "text": _always("upstream connect error or disconnect/reset before headers. reset reason: overflow"),
    "empty": _always(""),
    "space": _always(" \r\n "),
    "object": _always("{}"),
    "list": _always("[]"),
    "null": _always("null"),
    "number": _always("1e999"),
    "long_number": _always('{"FailedEntryCount":' + "9" * 5000 + ',"Entries":[]}'),
    "string": _always('"ok"'),
    "true": _always("true"),
    "nested": _always("[" * 2000),
    "nul": _always(b"\x00" * 64),
    "binary": _always(bytes(range(128, 256)) * 4),
    "surrogates": _always('{"message":"\\ud800","__type":"\\udfff"}'),
    "bom": _always(b'\xef\xbb\xbf{"Entries":[]}'),
    "error_in_json": _always('{"__type":"com.amazonaws.events#InternalFailure","message":null}'),
    "throttled_in_json": _always('{"__type":"ThrottlingException","message":"Rate exceeded"}'),
    "code_is_number": _always('{"__type":500,"code":42,"message":{"a":[1]}}'),
    "message_only": _always('{"message":"Forbidden"}'),
    "code_is_long": _always('{"__type":"' + "A" * 4000 + '"}'),
    "error_in_xml": _always("<ErrorResponse><Error><Code>ServiceUnavailable</Code></Error></ErrorResponse>"),
    "xml_bomb": _always('<!DOCTYPE a [<!ENTITY b "bb">]><a>&b;&b;&undefined;</a>'),
    "cut": Body(_cut),
    "utf16": Body(lambda real, _dice: real.decode().encode("utf-16")),
    "reversed": Body(lambda real, _dice: real[::-1]),
}
"""Bodies for every API. A cut or reversed body is no JSON, so none of its event ids is told."""

_PUT_EVENTS: Final[Mapping[str, Body]] = {
    "one_result_less": _results(lambda entries: entries[:-1]),
    "one_result_more": _results(lambda entries: [*entries, {"EventId": "11111111-2222-3333-4444-555555555555"}]),
    "fifty_results": _results(lambda entries: entries * 50),
    "no_results": _results(lambda _entries: []),
    "results_null": _results(lambda _entries: None),
    "results_object": _results(lambda entries: {str(place): one for place, one in enumerate(entries)}),
    "result_null": _results(lambda entries: [None for _ in entries]),
    "result_texts": _results(lambda entries: ["ok" for _ in entries]),
    "ids_numbers": _results(lambda entries: [{"EventId": 7} for _ in entries]),
    "ids_empty": _results(lambda entries: [{"EventId": ""} for _ in entries]),
    "ids_null": _results(lambda entries: [{"EventId": None, "ErrorCode": None} for _ in entries]),
    "codes_numbers": _results(lambda entries: [{"ErrorCode": 500, "ErrorMessage": 1} for _ in entries]),
    "codes_odd": _results(lambda entries: [{"ErrorCode": "no code\n", "ErrorMessage": ["x"]} for _ in entries]),
    "ids_and_codes": _results(lambda entries: [{**one, "ErrorCode": "InternalFailure"} for one in entries]),
    "names_in_lower_case": _results(lambda entries: [{"eventId": one.get("EventId")} for one in entries]),
    "count_absurd": Body(lambda real, _dice: real.replace(b'"FailedEntryCount":', b'"FailedEntryCount":-9'), True),
}
_DESCRIBE: Final[Mapping[str, Body]] = {
    "other_bus": _always('{"Name":"other","Arn":"arn:aws:events:us-east-1:000000000000:event-bus/other"}'),
    "arn_is_number": _always('{"Name":"x","Arn":17}'),
}
_STS: Final[Mapping[str, Body]] = {
    "no_token": _without_tag("SessionToken"),
    "empty_token": _in_tag("SessionToken", ""),
    "half_token": Body(_half_token),
    "token_with_line_end": _in_tag("SessionToken", "abc&#13;&#10;X-Evil: 1"),
    "token_not_latin": _in_tag("SessionToken", "&#8364;&#128512;"),
    "no_key": _without_tag("AccessKeyId"),
    "empty_key": _in_tag("AccessKeyId", " "),
    "no_secret": _without_tag("SecretAccessKey"),
    "wrong_secret": _in_tag("SecretAccessKey", "wrong"),
    "no_expiration": _without_tag("Expiration"),
    "expired": _in_tag("Expiration", "2001-01-01T00:00:00Z"),
    "expires_in_year_1": _in_tag("Expiration", "0001-01-01T00:00:00+14:00"),
    "expires_in_year_9999": _in_tag("Expiration", "9999-12-31T23:59:59Z"),
    "expires_without_offset": _in_tag("Expiration", "2030-01-01T00:00:00"),
    "expires_with_huge_offset": _in_tag("Expiration", "2030-01-01T00:00:00+99:99"),
    "expires_in_words": _in_tag("Expiration", "tomorrow"),
    "expires_as_number": _in_tag("Expiration", "1e400"),
    "no_credentials": _without_tag("Credentials"),
    "credentials_text": _in_tag("Credentials", "none"),
    "no_account": _without_tag("Account"),
    "arn_is_text": _in_tag("Arn", "nobody"),
    "wrong_root": Body(lambda real, _dice: b"<a>" + real + b"</a>"),
    "json": _always('{"AssumeRoleResponse":{"AssumeRoleResult":{"Credentials":null}}}'),
    "empty_root": _always("<AssumeRoleResponse/>"),
}
_KMS: Final[Mapping[str, Body]] = {
    "plaintext_missing": _always('{"KeyId":"x"}'),
    "plaintext_short": _always('{"Plaintext":"QUJD","CiphertextBlob":"QUJD"}'),
    "plaintext_no_base64": _always('{"Plaintext":"***","CiphertextBlob":7}'),
}
BODIES: Final[Mapping[Api, Mapping[str, Body]]] = {
    "PutEvents": {**_PAGES, **_PUT_EVENTS},
    "DescribeEventBus": {**_PAGES, **_DESCRIBE},
    "AssumeRole": {**_PAGES, **_STS},
    "GetCallerIdentity": {**_PAGES, **_STS},
    "Decrypt": {**_PAGES, **_KMS},
    "GenerateDataKey": {**_PAGES, **_KMS},
}
"""Bodies of each API, by name."""


class Garbled(NamedTuple):
    """A garbled answer, and the place in the corpus that it came from."""

    answer: Answer
    name: str
    """``STATUS/HEADERS/BODY``."""


def take(api: Api, real: Answer, name: str) -> Garbled:
    """The garbled answer at a place of the corpus, by its name."""
    status, headers, body = name.split("/")
    content = BODIES[api][body].garble(real.body, Random(0))
    return Garbled(Answer(int(status), HEADERS[headers], content), name)


def draw(api: Api, real: Answer, dice: Random, *, with_ids: bool) -> Garbled:
    """A garbled answer in the place of ``real``. ``with_ids``: it may repeat the event ids of ``real``."""
    bodies = BODIES[api]
    name = dice.choice([name for name, body in bodies.items() if with_ids or not body.keeps_ids])
    headers = dice.choice(list(HEADERS))
    # A special body matters in a 200: anywhere else it is not looked at.
    status = 200 if name not in _PAGES and dice.random() < 0.8 else dice.choice(STATUSES)
    content = bodies[name].garble(real.body, dice)
    fields = HEADERS[headers]
    if dice.random() < 0.05:
        headers, fields, content = "gzip", (_JSON, ("Content-Encoding", "gzip")), gzip.compress(content, mtime=0)
    return Garbled(Answer(status, fields, content), f"{status}/{headers}/{name}")
