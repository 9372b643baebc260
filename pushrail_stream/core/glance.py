"""A glance at a record: a search that may rule some customers out, at a small part of the cost of decoding."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, final

_MAX_CUSTOMERS: Final = 4
"""Customers that are searched for. The search for one takes about 0.2 µs in a small event, and decoding 3 µs."""
_ESCAPE: Final = b"\\"
"""Begins an escape in JSON. A text without escapes has every string literally."""


@final
class Glance:
    """Looks for some customers in the values of records."""

    __slots__ = ("_names",)

    def __init__(self, customers: Collection[str]) -> None:
        is_few = 0 < len(customers) <= _MAX_CUSTOMERS
        self._names = tuple(customer.encode(errors="surrogatepass") for customer in customers) if is_few else ()

    def excludes(self, value: bytes | None) -> bool:
        """Whether the value is certainly no event of these customers. A value that is no event may be excluded too."""
        if not self._names or value is None or _ESCAPE in value:
            return False
        return all(name not in value for name in self._names)
