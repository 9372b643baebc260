"""The description of ingest's API, for programs (OpenAPI 3.1) and for people. It loads nothing from other servers."""

from __future__ import annotations

import json
from html import escape
from typing import Any, Final

from pushrail_stream.core.event import MAX_EVENT_TYPE, MAX_ID, VENDOR_HEADER

MAX_EVENTS: Final = 500
"""Most events of one request."""
MAX_IDEMPOTENCY_KEY: Final = MAX_ID - len(f"-{MAX_EVENTS - 1}")
"""Most characters of the header, so that its value with an event's index appended is a valid idempotencyKey."""
_EXAMPLE: Final[dict[str, Any]] = {
    "eventType": "order.completed",
    "occurredAt": "2026-05-26T14:21:08.493Z",
    "source": "checkout-service",
    "customerExternalId": "acct_8K2zRq",
    "idempotencyKey": "order_38a91f-completed",
    "correlationId": "req_9f2c",
    "payload": {"orderId": "order_38a91f", "amountCents": 12_900, "currency": "USD"},
    "metadata": {"region": "us-east-1"},
}
_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Canonical event",
    "description": (
        "A fact about a customer. Other fields are kept and travel along. The event is written to Kafka byte for "
        "byte as it was posted."
    ),
    "required": ["eventType", "occurredAt", "source", "customerExternalId", "idempotencyKey", "payload"],
    "properties": {
        "eventType": {
            "type": "string", "minLength": 1, "maxLength": MAX_EVENT_TYPE,
            "description": "What happened. The customer's rules see it as `detail-type`.",
        },
        "occurredAt": {"type": "string", "format": "date-time", "description": "RFC 3339, with offset."},
        "source": {"type": "string", "description": "The service that reports the event."},
        "customerExternalId": {
            "type": "string", "minLength": 1, "maxLength": MAX_ID,
            "description": "The customer whose event it is; also the key in Kafka.",
        },
        "idempotencyKey": {
            "type": "string", "minLength": 1, "maxLength": MAX_ID,
            "description": (
                "Identifies the event: the customer recognises a repeated event by it. May be left out when the "
                "header Idempotency-Key is given."
            ),
        },
        "correlationId": {"type": "string", "description": "An id to find the event in your own logs."},
        "payload": {"type": "object", "description": "The fact itself."},
        "metadata": {"type": "object", "description": "Further facts about the event."},
    },
    "examples": [_EXAMPLE],
}  # fmt: skip
_RESULT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["index", "idempotencyKey", "status"],
    "properties": {
        "index": {"type": "integer", "description": "Its place in the request, from 0."},
        "idempotencyKey": {"type": "string"},
        "status": {"enum": ["accepted", "failed"]},
        "partition": {"type": "integer"},
        "offset": {"type": "integer"},
        "detail": {"type": "string", "description": "Why it failed."},
    },
}
_ACCEPTED: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Accepted",
    "required": ["accepted", "results"],
    "properties": {
        "accepted": {"type": "integer", "minimum": 1},
        "results": {"type": "array", "items": {"$ref": "#/components/schemas/Result"}},
    },
}
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Problem details (RFC 9457)",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri",
            "description": "urn:pushrail:problem:NAME; the names never change.",
        },
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "description": "Every rule that is broken (at most 100).",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {
                    "index": {"type": "integer", "description": "Index of the event in the array, from 0."},
                    "field": {"type": "string"},
                    "pointer": {"type": "string", "description": "JSON Pointer into the body, as a fragment."},
                    "detail": {"type": "string"},
                },
            },
        },
        "accepted": {"type": "integer"},
        "results": {"type": "array", "items": {"$ref": "#/components/schemas/Result"}},
    },
}
_PROBLEM_EXAMPLE: Final[dict[str, Any]] = {
    "type": "urn:pushrail:problem:invalid-events",
    "title": "An event breaks a rule; none was taken",
    "status": 422,
    "detail": "1 of 2 events break a rule; the first: eventType: is missing",
    "errors": [{"index": 1, "field": "eventType", "detail": "is missing", "pointer": "#/1/eventType"}],
}
_RETRY_AFTER: Final[dict[str, Any]] = {
    "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds after which to try again."}
}
_REFUSALS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "400": ("The request cannot be understood.", {}),
    "401": (
        "The API key is missing, unknown or revoked.",
        {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "How to sign in: Bearer."}},
    ),
    "403": ("The header pushrail-vendor does not name the key's vendor.", {}),
    "408": ("The request did not come in time.", {}),
    "411": ("The body has neither a Content-Length nor chunks.", {}),
    "413": (
        "The body exceeds this installation's limit, or an event (see errors) exceeds that of Kafka.",
        {},
    ),
    "415": ("The body is not application/json in UTF-8, or it is compressed.", {}),
    "422": ("An event breaks a rule. None of the request was taken.", {}),
    "429": ("The key has used up its rate of events.", _RETRY_AFTER),
    "431": ("The request's line and headers are larger than 16 KiB.", {}),
    "500": ("An error of the service: post again.", {}),
    "503": (
        "Kafka did not acknowledge every event (see results), or too much waits. Post again with the same keys.",
        _RETRY_AFTER,
    ),
}
_TRACEPARENT: Final[dict[str, Any]] = {
    "traceparent": {"schema": {"type": "string"}, "description": "The trace that the events travel with."}
}


_HEADERS: Final = (
    (
        "Idempotency-Key",
        # No space at either end, because HTTP removes it, and no empty quotes.
        {
            "type": "string", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY,
            "pattern": '^(?!""$)[!-~]([ -~]*[!-~])?$',
        },
        "The idempotencyKey of an event that has none. In an array, `-` and the event's index are appended.",
    ),
    (
        VENDOR_HEADER, {"type": "string"},
        "Optional check: the request is refused unless the API key belongs to this vendor.",
    ),
    (
        "traceparent", {"type": "string"},
        "W3C trace context. An invalid one is replaced by a new one.",
    ),
)  # fmt: skip


def _header(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": description}


def _body() -> dict[str, Any]:
    event = {"$ref": "#/components/schemas/Event"}
    second = _EXAMPLE | {"eventType": "order.refunded", "idempotencyKey": "order_38a91f-refunded"}
    return {
        "schema": {"oneOf": [event, {"type": "array", "items": event, "minItems": 1, "maxItems": MAX_EVENTS}]},
        "examples": {
            "one": {"summary": "One event", "value": _EXAMPLE},
            "several": {"summary": "Several", "value": [_EXAMPLE, second]},
        },
    }


def _responses() -> dict[str, Any]:
    result = {
        "index": 0,
        "idempotencyKey": "order_38a91f-completed",
        "status": "accepted",
        "partition": 3,
        "offset": 1042,
    }
    accepted = {
        "schema": {"$ref": "#/components/schemas/Accepted"},
        "example": {"accepted": 1, "results": [result]},
    }
    problem: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    responses: dict[str, Any] = {
        "202": {
            "description": "Kafka has every event.",
            "headers": _TRACEPARENT,
            "content": {"application/json": accepted},
        }
    }
    for status, (description, headers) in _REFUSALS.items():
        example = {"example": _PROBLEM_EXAMPLE} if status == "422" else {}
        content = {"application/problem+json": problem | example}
        responses[status] = {"description": description, "headers": headers, "content": content}
    return responses


DESCRIPTION: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Pushrail Stream: ingest",
        "version": "1",
        "summary": "Post canonical events; they reach each customer's own EventBridge bus.",
    },
    "paths": {
        "/v1/events": {
            "post": {
                "operationId": "postEvents",
                "summary": "Post one event, or up to 500",
                "description": (
                    "One bad event means that none is taken. The answer is 202 when all in-sync replicas of Kafka have "
                    "every event. After 503, or without an answer, post again with the same idempotency keys."
                ),
                "security": [{"apiKey": []}],
                "parameters": [_header(*header) for header in _HEADERS],
                "requestBody": {"required": True, "content": {"application/json": _body()}},
                "responses": _responses(),
            }
        }
    },
    "components": {
        "schemas": {"Event": _EVENT, "Result": _RESULT, "Accepted": _ACCEPTED, "Problem": _PROBLEM},
        "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer", "description": "An API key of one vendor."}},
    },
}
"""The OpenAPI 3.1 document. Its limits are the decoder's own, and tests compare the service with it."""

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
pre { background: #f4f4f4; padding: 1rem; overflow-x: auto } code { font-family: ui-monospace, monospace }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top; padding: .3rem .6rem;
border-bottom: 1px solid #ddd }
"""


def docs_page() -> str:
    """The description as a page for people, without scripts or external resources."""
    document = DESCRIPTION
    operation = document["paths"]["/v1/events"]["post"]
    schemas = document["components"]["schemas"]
    event, content = schemas["Event"], operation["requestBody"]["content"]["application/json"]
    required = set(event["required"])
    fields = [(name, _kind(p, name in required), p.get("description", "")) for name, p in event["properties"].items()]
    headers = [(p["name"], _kind(p["schema"], required=False), p["description"]) for p in operation["parameters"]]
    answers = [(status, "", response["description"]) for status, response in operation["responses"].items()]
    examples = "".join(
        f"<h3>{escape(example['summary'])}</h3>{_json(example['value'])}" for example in content["examples"].values()
    )
    curl = (
        "curl -sS -X POST https://YOUR-HOST/v1/events \\\n"
        "  -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' \\\n"
        "  --data-binary @event.json"
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(document['info']['title'])}</title><style>{_STYLE}</style>"
        f"<h1>{escape(document['info']['title'])}</h1><p>{escape(document['info']['summary'])} "
        "For programs: <a href=/openapi.json>openapi.json</a>.</p>"
        f"<h2><code>POST /v1/events</code></h2><p>{escape(operation['description'])}</p>"
        f"<pre><code>{escape(curl)}</code></pre>"
        f"<h2>The event</h2><p>{escape(event['description'])}</p>{_table(('field', '', ''), fields)}{examples}"
        f"<h2>Headers</h2>{_table(('header', '', ''), headers)}"
        f"<h2>Answers</h2>{_table(('status', '', ''), answers)}"
        f"<h3>202</h3>{_json(operation['responses']['202']['content']['application/json']['example'])}"
        f"<h3>422</h3>{_json(operation['responses']['422']['content']['application/problem+json']['example'])}</html>"
    )


def _kind(schema: dict[str, Any], required: bool) -> str:  # noqa: FBT001 - the one question
    length = f", {schema['minLength']} to {schema['maxLength']} characters" if "maxLength" in schema else ""
    return f"{schema.get('format', schema['type'])}{length}{'' if required else ', optional'}"


def _table(head: tuple[str, ...], rows: list[tuple[str, str, str]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td><td>{escape(text)}</td></tr>"
        for name, kind, text in rows
    )
    return f"<table><tr>{cells}</tr>{lines}</table>"


def _json(value: Any) -> str:
    return f"<pre><code>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</code></pre>"
