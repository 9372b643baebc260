"""Rotation: interrupted anywhere it leaves documents that open; taken up again it ends with the primary key alone."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.destination import Secret
from pushrail_stream.core.signals import DocumentRefused
from pushrail_stream.operations.sealing_keys import Rotation, rotate, survey
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry.json_document import sealed_in
from pushrail_stream.registry.keyring import Keyring
from pushrail_stream.registry.sealing import Place
from tests.support.documents import ACCESS_KEY, customer
from tests.support.sealing_keys import no_kms, ring

FIELD = "auth.secretAccessKey"


class Interrupted(Exception):  # noqa: N818 - it is no error
    """The process is gone."""


class Kept:
    """Documents in memory. Implements `ports.DocumentStore`."""

    def __init__(self, documents: dict[str, bytes]) -> None:
        self.documents = documents
        self.writes_left = 1_000_000
        self.before_read: Callable[[str], None] = lambda _: None
        self.unreadable: tuple[DocumentChange, ...] = ()

    async def everything(self) -> Sequence[DocumentChange]:
        return [*(DocumentChange(name, content) for name, content in self.documents.items()), *self.unreadable]

    async def read(self, name: str) -> bytes | None:
        self.before_read(name)
        return self.documents.get(name)

    async def write(self, name: str, content: bytes | None) -> None:
        if self.writes_left == 0:
            raise Interrupted
        self.writes_left -= 1
        assert content is not None
        self.documents[name] = content


def keys(*names: str) -> Keyring:
    return Keyring.open("env:RING", {"RING": ring(*names).decode()}, no_kms)


def sealed(keyring: Keyring, number: int, secret: str | None = None) -> bytes:
    place = Place("acme", f"dst_{number}", FIELD)
    auth = {**ACCESS_KEY, "secretAccessKey": keyring.seal(Secret(secret or f"secret-{number}"), place)}
    return json.dumps(customer(str(number), auth=auth)).encode()


def opened(keyring: Keyring, documents: dict[str, bytes]) -> dict[str, str]:
    found = {}
    for name, content in documents.items():
        held = sealed_in(content)
        assert held is not None
        place, token = held
        assert isinstance(place, Place)
        found[name] = keyring.unseal(token, place).reveal()
    return found


def run(store: Kept, keyring: Keyring, *, dry_run: bool = False) -> tuple[Rotation, list[tuple[int, int]]]:
    steps: list[tuple[int, int]] = []
    rotation = asyncio.run(
        rotate(store, keyring, dry_run=dry_run, progress=lambda done, total: steps.append((done, total)))
    )
    return rotation, steps


OLD, BOTH, NEW = keys("old"), keys("new", "old"), keys("new")


@given(st.integers(1, 8), st.lists(st.integers(0, 8), max_size=3))
def test_it_may_be_interrupted_anywhere(documents: int, interruptions: list[int]) -> None:
    store = Kept({f"d{n}": sealed(OLD, n) for n in range(documents)})
    secrets = {f"d{n}": f"secret-{n}" for n in range(documents)}
    for writes in interruptions:
        store.writes_left = writes
        try:
            run(store, BOTH)
        except Interrupted:
            assert store.writes_left == 0
        assert opened(BOTH, store.documents) == secrets
    store.writes_left = documents
    rotation, steps = run(store, BOTH)
    assert opened(NEW, store.documents) == secrets
    assert (rotation.problems, rotation.in_use, rotation.unused(BOTH)) == ([], {"new": documents}, ["old"])
    assert steps == [(n + 1, documents) for n in range(documents)]
    again, _ = run(store, BOTH)
    assert again.resealed == []


def test_plain_documents_stay_unchanged() -> None:
    plain = {
        "role": json.dumps(customer("role"), indent=8).encode(),
        "env": json.dumps(customer("env", auth=ACCESS_KEY)).encode(),
        "done": sealed(NEW, 1),
    }
    store = Kept(dict(plain))
    rotation, _ = run(store, BOTH)
    assert store.documents == plain
    assert (rotation.resealed, rotation.problems, rotation.in_use) == ([], [], {"new": 1})


def test_a_rehearsal_writes_nothing() -> None:
    store = Kept({"d1": sealed(OLD, 1), "d2": sealed(NEW, 2)})
    before = dict(store.documents)
    rotation, _ = run(store, BOTH, dry_run=True)
    assert store.documents == before
    assert (rotation.resealed, rotation.in_use) == (["d1"], {"old": 1, "new": 1})
    assert rotation.unused(BOTH) == []


def test_an_edit_made_meanwhile_is_not_undone() -> None:
    store = Kept({"d1": sealed(OLD, 1)})
    edits = {"d1": sealed(OLD, 1, "edited")}
    store.before_read = lambda name: store.documents.update({name: edits.pop(name)} if name in edits else {})
    rotation, _ = run(store, BOTH)
    assert opened(NEW, store.documents) == {"d1": "edited"}
    assert rotation.resealed == ["d1"]


def test_a_document_deleted_meanwhile_stays_deleted() -> None:
    store = Kept({"d1": sealed(OLD, 1), "d2": sealed(OLD, 2)})

    def delete(name: str) -> None:
        if name == "d1":
            del store.documents[name]

    store.before_read = delete
    rotation, _ = run(store, BOTH)
    assert list(store.documents) == ["d2"]
    assert (rotation.resealed, rotation.in_use) == (["d2"], {"new": 1})


def test_an_unopened_secret_keeps_old_keys() -> None:
    moved = json.loads(sealed(OLD, 1))
    documents: dict[str, Any] = {
        "good": sealed(OLD, 2),
        "moved": json.dumps({**moved, "id": "dst_elsewhere"}).encode(),
        "lacking": sealed(keys("lost"), 3),
        "cut": json.dumps(customer("4", auth={**ACCESS_KEY, "secretAccessKey": "sealed:1:old:x"})).encode(),
        "garbage": b"{",
        "cut off": sealed(OLD, 5)[:-2],
        "escaped": b'{"secretAccessKey": "\\u0073ealed:1:old:',
        "renewed": sealed(NEW, 6)[:-2],
    }
    store = Kept(dict(documents))
    store.unreadable = (DocumentChange("locked", None, "cannot be read: permission denied"),)
    rotation, _ = run(store, BOTH)
    assert rotation.resealed == ["good"]
    assert {(problem.document, problem.field) for problem in rotation.problems} == {
        ("moved", FIELD), ("lacking", FIELD), ("cut", FIELD), ("cut off", ""), ("escaped", ""), ("locked", ""),
    }  # fmt: skip
    assert DocumentRefused("locked", "", "cannot be read: permission denied") in rotation.problems
    assert rotation.in_use == {"new": 1, "old": 1, "lost": 1}
    assert rotation.unused(BOTH) == []
    assert {name: store.documents[name] for name in documents if name != "good"} == {
        name: content for name, content in documents.items() if name != "good"
    }
    assert [left.document for left in rotation.left] == ["garbage", "renewed"]
    seen = asyncio.run(survey(store, "new"))
    assert seen.in_use == {"new": 1, "old": 1, "lost": 1}
    assert [problem.document for problem in seen.problems] == ["cut", "cut off", "escaped", "locked"]


def misplaced(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(sealed(OLD, 1))
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "content",
    [
        sealed(OLD, 1).decode().encode("utf-16"),
        sealed(OLD, 1).decode().encode("utf-16-le"),
        gzip.compress(sealed(OLD, 1)),
        misplaced(lambda document: document["auth"].update(secret=document["auth"].pop("secretAccessKey"))),
        misplaced(lambda document: document["auth"].update(secretAccessKey=" " + document["auth"]["secretAccessKey"])),
        misplaced(lambda document: document.update(before=[document["auth"]["secretAccessKey"]])),
        misplaced(lambda document: document.update(auth=document["auth"]["secretAccessKey"])),
        b"[" + sealed(OLD, 1) + b"]",
        misplaced(lambda document: document.update(auth=json.dumps(document["auth"]))).replace(
            b"sealed", b"\\u0073ealed"
        ),
    ],
)
def test_an_unparsed_document_keeps_old_keys(content: bytes) -> None:
    rotation, _ = run(Kept({"odd": content, "good": sealed(OLD, 2)}), BOTH)
    assert rotation.resealed == ["good"]
    assert [problem.document for problem in rotation.problems] == ["odd"]
    assert rotation.unused(BOTH) == []
    assert [problem.document for problem in asyncio.run(survey(Kept({"odd": content}), "new")).problems] == ["odd"]


def test_a_misplaced_secret_keeps_its_key_only() -> None:
    content = misplaced(lambda document: document.update(auth={}, before=json.loads(sealed(NEW, 1))["auth"]))
    rotation, _ = run(Kept({"odd": content}), BOTH)
    assert (rotation.problems, rotation.unused(BOTH)) == ([], ["old"])


@pytest.mark.parametrize("primary", ["new", "old"])
def test_it_uses_the_current_primary_key(primary: str) -> None:
    ring_of = keys(primary, "old" if primary == "new" else "new")
    store = Kept({"d1": sealed(OLD, 1), "d2": sealed(NEW, 2)})
    rotation, _ = run(store, ring_of)
    assert rotation.in_use == {primary: 2}
    assert opened(keys(primary), store.documents) == {"d1": "secret-1", "d2": "secret-2"}
