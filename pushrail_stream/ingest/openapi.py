"""The description of ingest's API: for programs, ``openapi.yaml``; for people, a page made from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape
from importlib import resources
from typing import Any, Final

import yaml

from pushrail_stream.events.schema import event_schema
from pushrail_stream.observe.pages import page, section

_CURL: Final = """\
curl -sS -X POST https://YOUR-HOST/v1/events \\
  -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' \\
  --data-binary @event.json"""


def describe() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    document: dict[str, Any] = yaml.safe_load(resources.files(__package__).joinpath("openapi.yaml").read_bytes())
    schemas = document["components"]["schemas"]
    event = schemas["Event"] = event_schema()
    del event["$schema"]  # OpenAPI 3.1 has the same dialect
    schemas["CloudEvent"]["properties"]["time"]["pattern"] = event["properties"]["occurredAt"]["pattern"]
    return document


def docs_page(document: dict[str, Any]) -> str:
    """The document as a page for people."""
    operation, event = document["paths"]["/v1/events"]["post"], document["components"]["schemas"]["Event"]
    content, answers = operation["requestBody"]["content"].values(), operation["responses"]
    fields = [(name, _kind(p, name in event["required"]), p["description"]) for name, p in event["properties"].items()]
    headers = [(p["name"], _kind(p["schema"], p["required"]), p["description"]) for p in operation["parameters"]]
    examples = [
        f"<h3>{escape(one['summary'])}</h3>{_code(one['value'])}"
        for media in content
        for one in media.get("examples", {}).values()
    ]
    accepted, invalid = answers["202"]["content"], answers["422"]["content"]
    return page(
        document["info"]["title"],
        f"<p>{escape(document['info']['summary'])} For programs: <a href=/openapi.json>openapi.json</a>.</p>"
        f"<h2><code>POST /v1/events</code></h2><p>{_prose(operation['description'])}</p>"
        f"<pre><code>{escape(_CURL)}</code></pre><p>{_prose(event['description'])}</p>"
        f"{_table('The event', 'field', fields)}{''.join(examples)}{_table('Headers', 'header', headers)}"
        f"{_table('Answers', 'status', [(status, '', one['description']) for status, one in answers.items()])}"
        f"<h3>202</h3>{_code(accepted['application/json']['example'])}"
        f"<h3>422</h3>{_code(invalid['application/problem+json']['example'])}",
    )


def _kind(schema: dict[str, Any], required: bool) -> str:  # noqa: FBT001 - the one question
    length = f", {schema['minLength']} to {schema['maxLength']} characters" if "maxLength" in schema else ""
    return f"{schema.get('format', schema['type'])}{length}{'' if required else ', optional'}"


def _table(title: str, first: str, rows: Iterable[tuple[str, str, str]]) -> str:
    cells = [(f"<code>{escape(name)}</code>", escape(kind), _prose(text)) for name, kind, text in rows]
    return section(title, (first, "form", "meaning"), cells, prose=2)


def _prose(text: str) -> str:
    """The markup of a text in which backticks mark code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _code(value: Any) -> str:
    return f"<pre><code>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</code></pre>"
