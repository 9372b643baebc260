"""As much of HCL as our Terraform templates hold in ``jsonencode(...)``, read without Terraform."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\w.-]+|[{}\[\]=,]')
_BLOCK: Final = re.compile(r'^resource "(\w+)" "\w+" \{$(.*?)^\}$', re.DOTALL | re.MULTILINE)
_ENCODED: Final = re.compile(r"(\w+)\s*=\s*jsonencode\((.*?)\)\n", re.DOTALL)


def encoded(template: str, references: Mapping[str, str]) -> dict[str, Any]:
    """The value of every ``RESOURCE.ATTRIBUTE`` that is ``jsonencode(...)``; ``references``: values of references."""
    found = {}
    for name, text in attributes(template):
        assert name not in found, f"{name} is there twice"
        tokens = _TOKEN.findall(text)
        found[name] = _value(tokens, references)
        assert not tokens, tokens
    return found


def attributes(template: str) -> list[tuple[str, str]]:
    """Every ``RESOURCE.ATTRIBUTE`` that is ``jsonencode(...)``, with the text between the parentheses."""
    return [
        (f"{kind}.{name}", text) for kind, body in _BLOCK.findall(template) for name, text in _ENCODED.findall(body)
    ]


def _value(tokens: list[str], references: Mapping[str, str]) -> Any:
    token = tokens.pop(0)
    if token == "{":
        form = {}
        while (key := tokens.pop(0)) != "}":
            assert tokens.pop(0) == "="
            form[json.loads(key) if key.startswith('"') else key] = _value(tokens, references)
        return form
    if token == "[":
        values = []
        while tokens[0] != "]":
            values.append(_value(tokens, references))
            if tokens[0] == ",":
                tokens.pop(0)
        tokens.pop(0)
        return values
    if token.startswith('"'):
        text: str = json.loads(token)
        return re.sub(r"\$\{(.*?)\}", lambda reference: references[reference[1]], text)
    return references[token]
