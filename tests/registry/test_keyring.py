"""The keyring: its places, its problems in words that quote no key, and its changes under a worker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.destination import Secret
from pushrail_stream.errors import UsageError
from pushrail_stream.ports.secrets import KeyUnavailable
from pushrail_stream.registry.keyring import (
    KeyFacts,
    Keyring,
    SealBroken,
    unseal_without_keyring,
    with_key,
    without_keys,
)
from tests.support.sealing_keys import PLACE, key, keyring, no_kms, ring

ARN = "arn:aws:kms:eu-west-1:111122223333:key/12345678-90ab-cdef-1234-567890abcdef"
SECRET = Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


class PlainKms:
    """A KMS key that wraps nothing; it knows its own."""

    def __init__(self, arn: str) -> None:
        self.arn = arn.encode()

    def new_data_key(self, context: Mapping[str, str]) -> tuple[bytes, bytes]:
        del context
        return bytes(32), self.arn

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes | None:
        del context
        return bytes(32) if wrapped == self.arn else None


def test_the_primary_seals_and_every_key_opens(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    old = keyring(path, ring("old"))
    sealed = old.seal(SECRET, PLACE)
    both = keyring(path, ring("new", "old"))
    assert both.unseal(sealed, PLACE) == SECRET
    assert both.primary == "new"
    assert both.seal(SECRET, PLACE).startswith("sealed:1:new:")
    assert both.facts == (KeyFacts("new", "local", True, ""), KeyFacts("old", "local", False, ""))
    assert key("old") not in repr(both)


def test_a_keyring_may_be_a_variable_or_a_kms_key() -> None:
    environ = {"RING": ring("k").decode()}
    sealed = Keyring.open("env:RING", environ, no_kms).seal(SECRET, PLACE)
    assert Keyring.open("env:RING", environ, no_kms).unseal(sealed, PLACE) == SECRET
    cloud = Keyring.open(f"aws-kms:{ARN}", {}, PlainKms)
    assert cloud.primary == "12345678-90ab-cdef-1234-567890abcdef"
    assert cloud.facts[0].kind == "kms"
    assert cloud.unseal(cloud.seal(SECRET, PLACE), PLACE) == SECRET


def test_secrets_move_from_a_local_key_to_kms(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    sealed = keyring(path, ring("old")).seal(SECRET, PLACE)
    both = keyring(path, ring("cloud", "old", kms=ARN), PlainKms)
    moved = both.seal(both.unseal(sealed, PLACE), PLACE)
    assert keyring(path, ring("cloud", kms=ARN), PlainKms).unseal(moved, PLACE) == SECRET


def test_a_new_key_is_found_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    sealed = keyring(path, ring("new", "old")).seal(SECRET, PLACE)
    worker = keyring(path, ring("old"))
    with pytest.raises(KeyUnavailable) as missing:
        worker.unseal(sealed, PLACE)
    assert str(missing.value) == f"is sealed by key new, which the keyring does not have ({path})"
    path.write_bytes(ring("new", "old"))
    assert worker.unseal(sealed, PLACE) == SECRET
    assert worker.primary == "new"


def test_a_kms_key_is_kept_when_the_keyring_changes(tmp_path: Path) -> None:
    made: list[str] = []

    def kms(arn: str) -> PlainKms:
        made.append(arn)
        return PlainKms(arn)

    path = tmp_path / "keyring.json"
    later = keyring(path, ring("later")).seal(SECRET, PLACE)
    worker = keyring(path, ring("cloud", kms=ARN), kms)
    path.write_bytes(ring("cloud", "later", kms=ARN))
    assert worker.unseal(later, PLACE) == SECRET
    assert made == [ARN]


def test_a_replaced_key_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    worker = keyring(path, ring("k"))
    other = json.dumps({"primary": "k", "keys": {"k": {"key": key("other")}}}).encode()
    sealed = keyring(path, other).seal(SECRET, PLACE)
    assert worker.unseal(sealed, PLACE) == SECRET


def test_an_invalid_keyring_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    unknown = keyring(path, ring("new")).seal(SECRET, PLACE)
    worker = keyring(path, ring("old"))
    known = worker.seal(SECRET, PLACE)
    for content, said in ((b"{", "not valid JSON"), (None, "there is no such keyring")):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(KeyUnavailable, match=said):
            worker.unseal(unknown, PLACE)
        assert worker.unseal(known, PLACE) == SECRET


def test_a_secret_that_does_not_open_is_not_quoted(tmp_path: Path) -> None:
    ours = keyring(tmp_path / "keyring.json", ring("k"))
    sealed = ours.seal(SECRET, PLACE)
    with pytest.raises(SealBroken) as moved:
        ours.unseal(sealed, PLACE._replace(destination_id="dst_other"))
    assert str(moved.value) == (
        "does not open: it was changed, or sealed for another vendor, destination or key of this name (key k); "
        "seal it again with `destinations seal`"
    )
    with pytest.raises(SealBroken) as cut:
        ours.unseal(sealed[:-50], PLACE)
    assert sealed[20:40] not in str(cut.value)


def test_without_a_keyring_nothing_opens() -> None:
    with pytest.raises(KeyUnavailable, match=r"there is no keyring to open it with \(secrets.keyring\)"):
        unseal_without_keyring("sealed:1:k:x:y", PLACE)


def test_a_missing_keyring_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent: there is no such keyring: `keys generate` makes it"):
        Keyring.open(str(tmp_path / "absent"), {}, no_kms)
    with pytest.raises(UsageError, match="the keyring cannot be read: is a directory"):
        Keyring.open(str(tmp_path), {}, no_kms)
    with pytest.raises(UsageError, match="env:RING: the keyring is not valid JSON, or empty"):
        Keyring.open("env:RING", {}, no_kms)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "must be a mapping of names to values"),
        ({"keys": {}}, "primary: is required"),
        ({"primary": "k", "keys": {}}, "primary must be the id of one of keys"),
        ({"primary": "k", "keys": {"k": {}}}, "keys.k: must have either key or kms"),
        ({"primary": "k", "keys": {"k": {"key": key("k"), "kms": ARN}}}, "keys.k: must have either key or kms"),
        ({"primary": "k", "keys": {"k": {"key": key("k")[4:]}}}, "keys.k.key: must be 32 bytes in base64"),
        ({"primary": "k", "keys": {"k": {"key": "s3cret!"}}}, "keys.k.key: must be 32 bytes in base64"),
        ({"primary": "k", "keys": {"k": {"kms": ARN.replace("key/", "alias/")}}},
         "keys.k.kms: must be the ARN of a KMS key: arn:aws:kms:REGION:ACCOUNT:key/ID"),
        ({"primary": "a b", "keys": {"a b": {"key": key("k")}}},
         "keys: must be 1 to 64 letters, digits, '.', '_' and '-'"),
        ({"primary": "k", "keys": {"k": {"key": key("k"), "note": "s3cret!"}}}, "keys.k: has an unknown field"),
    ],
)  # fmt: skip
def test_a_wrong_keyring_is_refused_by_field(value: Any, problem: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        keyring(tmp_path / "keyring.json", json.dumps(value).encode())
    assert str(refused.value) == f"{tmp_path / 'keyring.json'}: {problem} (secrets.keyring)"


NAMES = ["primary", "keys", "key", "kms", "k", key("x")]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just(key("k")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=8,
)


@given(JSON)
def test_a_refused_keyring_shows_no_key(value: Any) -> None:
    problem = refusal(value)
    if problem is not None:
        assert problem.startswith("here: ")
        assert key("k") not in problem
        assert key("x") not in problem


def refusal(value: Any) -> str | None:
    try:
        Keyring("here", json.dumps(value).encode, no_kms)
    except UsageError as error:
        return str(error)
    return None


def test_a_new_key_becomes_the_primary() -> None:
    one = with_key("here", None, "one", kms=None, created="2026-11-24T00:00:00Z")
    two = with_key("here", one, "two", kms=None, created="2026-11-25T00:00:00Z")
    cloud = with_key("here", two, "cloud", kms=ARN, created="2026-11-26T00:00:00Z")
    value = json.loads(cloud)
    assert (value["primary"], list(value["keys"])) == ("cloud", ["one", "two", "cloud"])
    assert value["keys"]["one"] == json.loads(one)["keys"]["one"]
    assert value["keys"]["one"]["key"] != value["keys"]["two"]["key"]
    left = json.loads(without_keys("here", cloud, frozenset({"one", "two"})))
    assert left == {"primary": "cloud", "keys": {"cloud": {"kms": ARN, "created": "2026-11-26T00:00:00Z"}}}
    with pytest.raises(UsageError, match="there is a key two already: name another with --id"):
        with_key("here", cloud, "two", kms=None, created="")
    with pytest.raises(UsageError, match="primary must be the id of one of keys"):
        without_keys("here", cloud, frozenset({"cloud"}))
