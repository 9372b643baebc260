from __future__ import annotations

import re
from pathlib import Path

import tests.faults


def test_the_list_names_every_test() -> None:
    listed = re.findall(r"\btest_\w+\b(?!/)", re.sub(r"\w+/test_\w+", "", tests.faults.__doc__ or ""))
    written = [
        name
        for file in Path(tests.faults.__path__[0]).glob("test_*.py")
        if file != Path(__file__)
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert sorted(listed) == sorted(written)
