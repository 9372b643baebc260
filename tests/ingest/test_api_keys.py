from __future__ import annotations

import asyncio
import contextlib
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.signals import ApiKeysChanged, Signal
from pushrail_stream.errors import OperatorError
from pushrail_stream.ingest.api_keys import ApiKeys, parse_keys, with_key_revoked, with_new_key
from pushrail_stream.registry.store import replace_file
from tests.support.ingest_server import NOW
from tests.support.patience import PATIENCE_SECS


def test_a_key_opens_and_is_stored_as_a_hash(tmp_path: Path) -> None:
    one = with_new_key(None, "acme", NOW)
    two = with_new_key(one.content, "other", NOW)
    file = tmp_path / "keys.json"
    file.write_bytes(two.content)
    keys = ApiKeys(file)
    found = [keys.find(key.secret) for key in (one, two)]
    assert [(key.id, key.vendor) for key in found if key] == [(one.id, "acme"), (two.id, "other")]
    assert re.fullmatch(r"prk_[a-z2-7]{10}_[A-Za-z0-9_-]{43}", one.secret)
    assert one.secret.split("_", 2)[2].encode() not in two.content
    assert keys.active == 2


def test_only_the_exact_key_opens(tmp_path: Path) -> None:
    new = with_new_key(None, "acme", NOW)
    (tmp_path / "keys.json").write_bytes(new.content)
    keys = ApiKeys(tmp_path / "keys.json")
    flipped = "A" if new.secret[-1] != "A" else "B"
    near = (new.secret[:-1], new.secret + "A", new.secret[:-1] + flipped, new.secret.upper())
    for wrong in ("", "prk_", "\udcff", *near):
        assert keys.find(wrong) is None


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> ApiKeys:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    file.write_bytes(with_new_key(None, "acme", NOW).content)
    return ApiKeys(file)


@given(presented=st.text())
def test_arbitrary_text_opens_nothing(keys: ApiKeys, presented: str) -> None:
    assert keys.find(presented) is None


def test_a_revoked_key_stays_in_the_file(tmp_path: Path) -> None:
    new = with_new_key(None, "acme", NOW)
    later = NOW + timedelta(days=1)
    content = with_key_revoked(new.content, new.id, later)
    (tmp_path / "keys.json").write_bytes(content)
    assert ApiKeys(tmp_path / "keys.json").find(new.secret) is None
    assert [(key.id, key.revoked_at) for key in parse_keys(content)] == [(new.id, later)]
    again = with_key_revoked(content, new.id, later + timedelta(days=1))
    assert again == content, "when it was revoked stays"
    with pytest.raises(ValueError, match="there is no key nobody"):
        with_key_revoked(content, "nobody", later)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"vendor": "a/b"}, r"keys\.0\.vendor: "),
        ({"sha256": "short"}, r"keys\.0\.sha256: "),
        ({"createdAt": "yesterday"}, r"keys\.0\.createdAt: "),
        ({"key": "prk_in_clear"}, r"keys\.0\.key: "),
    ],
)
def test_a_wrong_file_names_its_field_only(change: dict[str, str], problem: str) -> None:
    document = json.loads(with_new_key(None, "acme", NOW).content)
    document["keys"][0] |= change
    with pytest.raises(ValueError, match=problem) as caught:
        parse_keys(json.dumps(document).encode())
    assert not any(value in str(caught.value) for value in change.values())


def test_two_keys_of_one_id_are_refused() -> None:
    document = json.loads(with_new_key(None, "acme", NOW).content)
    document["keys"] *= 2
    with pytest.raises(ValueError, match="two have one id"):
        parse_keys(json.dumps(document).encode())


def test_without_a_file_there_is_no_ingest(tmp_path: Path) -> None:
    with pytest.raises(
        OperatorError, match=r"ingest\.keys_file: .*none\.json: no such file.* make one by: pushrail-stream"
    ):
        ApiKeys(tmp_path / "none.json")


async def test_a_bad_change_of_the_file_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    one = with_new_key(None, "acme", NOW)
    file.write_bytes(one.content)
    keys, changes = ApiKeys(file), asyncio.Queue[ApiKeysChanged]()

    def observe(signal: Signal) -> None:
        assert isinstance(signal, ApiKeysChanged)
        changes.put_nowait(signal)

    following = asyncio.Task(keys.keep(observe))
    try:
        async with asyncio.timeout(PATIENCE_SECS):
            replace_file(file, b"{}")
            change = await changes.get()
            assert change.active == 1
            assert "keys: Field required" in change.problem
            assert keys.find(one.secret), "the keys before stay in use"
            two = with_new_key(one.content, "acme", NOW)
            replace_file(file, with_key_revoked(two.content, one.id, NOW))
            assert await changes.get() == ApiKeysChanged(1)
            assert keys.find(two.secret)
            assert keys.find(one.secret) is None
            file.unlink()
            assert "no such file" in (await changes.get()).problem
            assert keys.find(two.secret)
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
    assert changes.empty(), "the same is said once"
