"""Documents with sealed secrets: opened where they belong, refused elsewhere, and waited for where it may help."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.destination import Secret
from pushrail_stream.core.signals import DocumentRefused, RegistryChanged, Signal
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry import folder, watcher
from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.registry.documents import Parsed, parse_document, to_document
from pushrail_stream.registry.folder import Folder
from pushrail_stream.registry.json_document import Problem
from pushrail_stream.registry.keyring import Keyring
from pushrail_stream.registry.sealing import LocalKey, Place
from pushrail_stream.registry.watcher import RegistryWatcher
from pushrail_stream.settings.eventbridge import AccessKey, AssumeRole
from tests.support.documents import ACCESS_KEY, customer, document, load, write
from tests.support.patience import PATIENCE_SECS
from tests.support.sealing_keys import FIELD, SECRET, keyring, no_kms, ring


def sealed_document(keys: Keyring, name: str, secret: Secret = SECRET, **changes: Any) -> dict[str, Any]:
    """A customer's document with an access key sealed for it."""
    auth = {**ACCESS_KEY, "secretAccessKey": keys.seal(secret, Place("acme", f"dst_{name}", FIELD))}
    return customer(name, auth=auth, **changes)


def change(name: str, content: dict[str, Any]) -> DocumentChange:
    return DocumentChange(name, json.dumps(content).encode())


def catalog_of(keys: Keyring) -> Catalog:
    return Catalog(lambda _, content: parse_document(content, environ={}, default_max_in_flight=8, unseal=keys.unseal))


def secret_of(catalog: Catalog, name: str) -> Secret | None:
    found = catalog.get(f"dst_{name}")
    assert found is not None
    assert isinstance(found.bus.auth, AccessKey)
    return found.bus.auth.secret


def test_reading_opens_a_sealed_secret(keys: Keyring) -> None:
    content = json.dumps(sealed_document(keys, "a")).encode()
    parsed = parse_document(content, environ={}, default_max_in_flight=8, unseal=keys.unseal)
    assert isinstance(parsed, Parsed)
    assert parsed.destination.bus.auth == AccessKey(ACCESS_KEY["accessKeyId"], SECRET)
    assert (parsed.locked, parsed.caveats) == (None, ())
    assert to_document(parsed.destination)["auth"]["secretAccessKey"] == "***"
    assert SECRET.reveal() not in repr(parsed)


def test_swapped_secrets_do_not_open(keys: Keyring) -> None:
    a, b, c = (sealed_document(keys, name) for name in "abc")
    a["auth"], b["auth"] = b["auth"], a["auth"]
    catalog = catalog_of(keys)
    first = catalog.apply([change("a", a), change("b", b), change("c", c)])
    assert [(refusal.document, refusal.field) for refusal in first.refusals] == [("a", FIELD), ("b", FIELD)]
    assert first.refusals[0].problem.startswith("does not open: it was changed, or sealed for another vendor")
    # They stand without their secrets, so that their events are dead letters that say why and not skipped.
    assert [secret_of(catalog, name) for name in "abc"] == [None, None, SECRET]
    assert (catalog.bad, catalog.waiting) == (2, ())
    mended = catalog.apply([change("a", sealed_document(keys, "a")), change("b", sealed_document(keys, "b"))])
    assert mended.put == ("dst_a", "dst_b")
    assert catalog.bad == 0


def test_a_worker_keeps_the_last_good_documents(keys: Keyring) -> None:
    a, b = sealed_document(keys, "a"), sealed_document(keys, "b")
    catalog = catalog_of(keys)
    catalog.apply([change("a", a), change("b", b)])
    a["auth"], b["auth"] = b["auth"], a["auth"]
    swapped = catalog.apply([change("a", a), change("b", b)])
    assert [refusal.document for refusal in swapped.refusals] == ["a", "b"]
    assert swapped.put == ()
    assert [secret_of(catalog, name) for name in "ab"] == [SECRET, SECRET]
    assert catalog.bad == 2


def test_a_document_sealed_anew_changes_nothing(keys: Keyring) -> None:
    catalog = catalog_of(keys)
    catalog.apply([change("a", sealed_document(keys, "a"))])
    again = catalog.apply([change("a", sealed_document(keys, "a"))])
    assert (again.put, again.refusals) == ((), ())
    other = catalog.apply([change("a", sealed_document(keys, "a", Secret("another")))])
    assert other.put == ("dst_a",)


def test_a_missing_key_keeps_opened_secrets(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    new = keyring(path, ring("new", "old"))
    a, b = sealed_document(new, "a"), sealed_document(new, "b", enabled=False)
    worker = keyring(path, ring("old"))
    catalog = catalog_of(worker)
    catalog.apply([change("a", sealed_document(worker, "a", Secret("before")))])
    lacking = catalog.apply([change("a", a), change("b", b)])
    problem = f"is sealed by key new, which the keyring does not have ({path})"
    assert [(refusal.document, refusal.problem) for refusal in lacking.refusals] == [("a", problem), ("b", problem)]
    assert (secret_of(catalog, "a"), secret_of(catalog, "b")) == (Secret("before"), None)
    waiting = catalog.get("dst_b")
    assert waiting is not None
    assert waiting.bus.auth == AccessKey(ACCESS_KEY["accessKeyId"], None, is_waiting=True)
    assert [document.name for document in catalog.waiting] == ["a", "b"]
    # An edit of one that never opened is taken, for there is nothing better.
    catalog.apply([change("b", {**b, "enabled": True})])
    edited = catalog.get("dst_b")
    assert edited is not None
    assert edited.enabled
    path.write_bytes(ring("new", "old"))
    opened = catalog.apply(catalog.waiting)
    assert (opened.put, opened.refusals) == (("dst_a", "dst_b"), ())
    assert (secret_of(catalog, "a"), secret_of(catalog, "b")) == (SECRET, SECRET)
    assert (catalog.waiting, catalog.bad) == ((), 0)


BROKEN = DocumentChange("a", b'{"id": "dst_b", "enabled": "yes"}')


def test_the_last_good_version_of_a_broken_document_opens_when_its_key_comes(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    new = keyring(path, ring("new", "old"))
    catalog = catalog_of(keyring(path, ring("old")))
    catalog.apply([change("a", sealed_document(new, "a"))])
    assert catalog.apply([BROKEN]).refusals
    assert [document.name for document in catalog.waiting] == ["a"]
    assert catalog.apply(catalog.waiting).put == (), "the key is not there yet"
    assert [document.name for document in catalog.waiting] == ["a"]
    path.write_bytes(ring("new", "old"))
    opened = catalog.apply(catalog.waiting)
    assert (opened.put, opened.refusals) == (("dst_a",), ())
    assert secret_of(catalog, "a") == SECRET
    assert (catalog.waiting, catalog.bad) == ((), 1), "the present content is refused as before"
    catalog.apply([change("a", sealed_document(new, "a", Secret("after")))])
    assert (secret_of(catalog, "a"), catalog.bad) == (Secret("after"), 0)


def test_the_last_good_version_of_a_broken_document_waits_no_more_when_its_key_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    new = keyring(path, ring("new", "old"))
    a, b = sealed_document(new, "a"), sealed_document(new, "b")
    catalog = catalog_of(keyring(path, ring("old")))
    catalog.apply([change("a", {**a, "auth": b["auth"]})])
    catalog.apply([BROKEN])
    path.write_bytes(ring("new", "old"))
    catalog.apply(catalog.waiting)
    destination = catalog.get("dst_a")
    assert destination is not None
    assert destination.bus.auth == AccessKey(ACCESS_KEY["accessKeyId"], None), "nothing is waited for"
    assert (catalog.waiting, catalog.bad) == ((), 1)


def test_a_newer_document_ends_the_wait_of_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    new = keyring(path, ring("new", "old"))
    catalog = catalog_of(keyring(path, ring("old")))
    catalog.apply([change("a", sealed_document(new, "a", Secret("before"))), BROKEN])
    again = change("a", sealed_document(new, "a"))
    catalog.apply([again])
    assert list(catalog.waiting) == [again]
    catalog.apply([BROKEN, DocumentChange("a", None)])
    assert (list(catalog.waiting), catalog.bad, len(catalog)) == ([], 0, 0)


def test_a_removed_document_is_not_awaited(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    a = sealed_document(keyring(path, ring("new")), "a")
    catalog = catalog_of(keyring(path, ring("old")))
    catalog.apply([change("a", a)])
    assert catalog.apply([DocumentChange("a", None)]).removed == ("dst_a",)
    assert (catalog.waiting, catalog.bad, len(catalog)) == ((), 0, 0)


async def test_documents_open_when_their_key_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "_RETRY_SECS", 0.01)
    monkeypatch.setattr(folder, "LOOK_SECS", 0.01)
    path, documents = tmp_path / "keyring.json", tmp_path / "documents"
    documents.mkdir()
    (documents / "a.json").write_text(json.dumps(sealed_document(keyring(path, ring("new")), "a")))
    keys, tries = keyring(path, ring("old")), list[str]()

    def parse(name: str, content: bytes) -> Parsed | tuple[Problem, ...]:
        tries.append(name)
        return parse_document(content, environ={}, default_max_in_flight=8, unseal=keys.unseal)

    catalog = Catalog(parse)
    signals, told = list[Signal](), asyncio.Event()

    def observe(signal: Signal) -> None:
        signals.append(signal)
        told.set()

    registry = RegistryWatcher(catalog, Folder(documents))
    await registry.load(observe)
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(registry.follow(observe))
        async with asyncio.timeout(PATIENCE_SECS):
            while len(tries) < 5:  # noqa: ASYNC110 - they are made in a thread
                await asyncio.sleep(0.01)
        # Nothing is told of tries.
        assert [type(signal) for signal in signals] == [DocumentRefused, RegistryChanged]
        told.clear()
        path.write_bytes(ring("new"))
        async with asyncio.timeout(PATIENCE_SECS):
            await told.wait()
        keeping.cancel()
    assert signals[2:] == [RegistryChanged(("dst_a",), (), 1, 0)]
    assert secret_of(catalog, "a") == SECRET


class SilentKms:
    """A KMS key that does not answer. Implements `ports.MasterKey`."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.answers = threading.Event()
        self._key = LocalKey(bytes(32))

    def new_data_key(self, context: Mapping[str, str]) -> tuple[bytes, bytes]:
        return self._key.new_data_key(context)

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes | None:
        self.asked.set()
        assert self.answers.wait(5 * PATIENCE_SECS)
        return self._key.unwrap(wrapped, context)


async def test_a_silent_kms_delays_sealed_ones_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "LOOK_SECS", 0.01)
    arn = "arn:aws:kms:eu-west-1:111122223333:key/12345678-90ab-cdef-1234-567890abcdef"
    kms = SilentKms()
    keys = keyring(tmp_path / "keyring.json", ring("cloud", kms=arn), lambda _arn: kms)
    documents = write(tmp_path / "documents", a=customer("a"), b=customer("b"))
    catalog = catalog_of(keys)
    signals, told = list[Signal](), asyncio.Event()

    def observe(signal: Signal) -> None:
        signals.append(signal)
        told.set()

    async def until(*put: str) -> None:
        async with asyncio.timeout(PATIENCE_SECS):
            while not any(isinstance(signal, RegistryChanged) and signal.put == put for signal in signals):
                told.clear()
                await told.wait()

    registry = RegistryWatcher(catalog, Folder(documents))
    await registry.load(observe)
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(registry.follow(observe))
        write(documents, b=sealed_document(keys, "b"), a=customer("a", enabled=False))
        try:
            await until("dst_a")
            assert await asyncio.to_thread(kms.asked.wait, PATIENCE_SECS)
            write(documents, b=sealed_document(keys, "b") | {"name": "last"}, c=customer("c"))
            await until("dst_c")
            write(documents, d=customer("d"))
            await until("dst_d")
            before = catalog.get("dst_b")
            assert before is not None
            assert isinstance(before.bus.auth, AssumeRole), "the last good one is in use"
        finally:
            kms.answers.set()
        async with asyncio.timeout(PATIENCE_SECS):
            while (b := catalog.get("dst_b")) is None or b.name != "last":
                told.clear()
                await told.wait()
        keeping.cancel()
    assert secret_of(catalog, "b") == SECRET
    assert catalog.bad == 0


def test_validation_refuses_secrets_that_do_not_open(keys: Keyring, tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    a, b = sealed_document(keys, "a"), sealed_document(keys, "b")
    (documents / "good.json").write_text(json.dumps(a))
    (documents / "moved.json").write_text(json.dumps({**b, "auth": a["auth"]}))
    parse = partial(parse_document, environ={}, default_max_in_flight=8, unseal=keys.unseal)
    _, change = load(documents, parse)
    assert [(Path(refusal.document).name, refusal.field) for refusal in change.refusals] == [("moved.json", FIELD)]


@given(st.text(max_size=60))
def test_a_sealed_text_opens_or_names_its_field(text: str) -> None:
    keys = Keyring.open("env:RING", {"RING": ring("k").decode()}, no_kms)
    content = json.dumps(document(auth={**ACCESS_KEY, "secretAccessKey": f"sealed:{text}"})).encode()
    parsed = parse_document(content, environ={}, default_max_in_flight=8, unseal=keys.unseal)
    assert isinstance(parsed, Parsed)
    assert parsed.locked is not None
    assert parsed.locked.field == FIELD
