"""AWS's partitions: the separate clouds that an ARN names first, as botocore's list has them.

The list is a data file (``botocore/data/partitions.json``); AWS's library itself is not loaded for it. No credentials
and no roles are valid in another partition than their own.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any, Final

_DEFAULT: Final = "aws"
"""The partition that botocore presumes for a region that no partition's pattern fits."""


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """Each partition with the pattern of its regions."""
    data: dict[str, Any] = json.loads(files("botocore").joinpath("data", "partitions.json").read_bytes())
    return {str(partition["id"]): re.compile(partition["regionRegex"]) for partition in data["partitions"]}


PARTITION: Final = f"(?:{'|'.join(re.escape(name) for name in _patterns())})"
"""A regular expression for the partition in an ARN."""


def partition_of(region: str) -> str:
    """The partition of a region, as ARNs name it."""
    return next((name for name, pattern in _patterns().items() if pattern.match(region)), _DEFAULT)
