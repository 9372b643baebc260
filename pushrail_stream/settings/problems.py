"""Problems of values, as sentences for the person who wrote them.

Only numbers out of bounds are ever quoted: any other value may be a secret in the wrong place.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

_SENTENCES: Final = {
    "missing": "is required",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_unicode": "must be valid Unicode text",
    "string_too_short": "must be at least {min_length} characters long",
    "string_too_long": "must be at most {max_length} characters long",
    "too_short": "must have at least {min_length} item(s)",
    "too_long": "must have at most {max_length} items",
    "literal_error": "must be {expected}",
    "path_type": "must be a path",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "mapping_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of names to values",
    "model_attributes_type": "must be a mapping of names to values",
    "invalid_key": "has a key that is not text",
}


def sentence(error: Mapping[str, Any]) -> str:
    """The problem, to be read after the field's name. ``error``: an item of pydantic's ``ValidationError.errors()``."""
    context = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in error.get("ctx", {}).items()
    }
    if error["type"] == "value_error":
        return str(context["error"])
    template = _SENTENCES.get(error["type"])
    if template is None:
        message: str = error["msg"]
        return message[:1].lower() + message[1:]
    # The environment's numbers are texts; a number out of bounds is known to have been one.
    bounded = "gt" in context or "ge" in context or "lt" in context or "le" in context
    quoted = f" (is {error['input']})" if bounded else ""
    return template.format_map(context) + quoted


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` when a known name is close, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
