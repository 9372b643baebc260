"""``destinations list`` selects by the fields of documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.commands import Shell
from tests.support.documents import ACCESS_KEY, customer, write

pytestmark = pytest.mark.usefixtures("one_destination")


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ("--customer acct_b", ["dst_b"]),
        ("--vendor globex", ["dst_c"]),
        ("--mode access_key --disabled", ["dst_b"]),
        ("--type eventbridge --enabled", ["dst_acme_8K2zRq", "dst_c"]),
        ("--mode ASSUME_ROLE --vendor acme", ["dst_acme_8K2zRq"]),
        ("--customer acct_b --enabled", []),
    ],
)
def test_list_selects(words: str, ids: list[str], shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_SECRET", "x" * 40)
    documents = {"b": customer("b", auth=ACCESS_KEY, enabled=False), "c": customer("c", vendor="globex")}
    write(Path("config/destinations"), **documents)
    code, out, err = shell("destinations", "list", *words.split(), "--json")
    assert (code, err, [json.loads(line)["id"] for line in out.splitlines()]) == (0, "", ids)


def test_an_unknown_state_is_refused(shell: Shell) -> None:
    code, _, err = shell("destinations", "list", "--state", "well")
    assert code == 2
    assert "'suspended'" in err
