"""Numbers among librdkafka properties, as librdkafka reads them."""

from __future__ import annotations

import re
from typing import Final

_NUMBER: Final = re.compile(r"\s*\+?(?:(?P<hex>0[xX][0-9a-fA-F]+)|(?P<octal>0[0-7]*)|(?P<decimal>[1-9][0-9]*))")
_BASES: Final = {"hex": 16, "octal": 8, "decimal": 10}
_MAX_DIGITS: Final = 20
"""More digits than any number that librdkafka takes."""


def whole(value: object) -> int | None:
    """The number that librdkafka makes of a property's value, which is C's strtol; None where it refuses the value."""
    found = _NUMBER.match(str(value))
    kind = found.lastgroup if found else None
    if found is None or kind is None or len(found[kind]) > _MAX_DIGITS:
        return None
    return int(found[kind], _BASES[kind])
