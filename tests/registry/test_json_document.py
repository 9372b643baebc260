"""A document is read as JSON, valid or not, and its secret is sealed in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.registry.json_document import Problem, masked, sealed_in, with_secret, with_switch
from pushrail_stream.registry.keyring import Keyring
from pushrail_stream.registry.sealing import Place
from tests.support.documents import ACCESS_KEY, document
from tests.support.sealing_keys import FIELD, SECRET


def test_an_invalid_document_can_be_sealed(keys: Keyring) -> None:
    place = Place("acme", "dst_a", FIELD)
    for auth in ({"mode": "ACCESS_KEY"}, {**ACCESS_KEY, "secretAccessKey": SECRET.reveal()}):
        content = json.dumps(document(id="dst_a", auth=auth, name="Zoë", surprise=1)).encode()
        changed = with_secret(content, lambda place: keys.seal(SECRET, place), "AKIANEW0000000000000")
        assert isinstance(changed, bytes)
        assert SECRET.reveal().encode() not in changed
        value = json.loads(changed)
        assert (value["auth"]["accessKeyId"], value["surprise"]) == ("AKIANEW0000000000000", 1)
        assert "Zoë".encode() in changed
        found = sealed_in(changed)
        assert isinstance(found, tuple)
        assert not isinstance(found, Problem)
        assert found.place == place
        assert keys.unseal(found.token, place) == SECRET


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"{", ""),
        (b"[]", "vendor"),
        (json.dumps(document(id=...)).encode(), "id"),
        (json.dumps(document(vendor=7)).encode(), "vendor"),
        (json.dumps(document()).encode(), "auth.mode"),
        (json.dumps(document(auth=...)).encode(), "auth.mode"),
    ],
)
def test_a_document_that_cannot_be_sealed_says_why(keys: Keyring, content: bytes, field: str) -> None:
    problem = with_secret(content, lambda place: keys.seal(SECRET, place))
    assert isinstance(problem, Problem)
    assert problem.field == field


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just("sealed:1:k:AAAA:BBBB"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "vendor", "auth", "mode", "secretAccessKey", "x"]), inner)
    ),
    max_leaves=10,
)


@given(JSON | st.binary())
def test_any_document_is_sealed_or_says_why_not(value: Any) -> None:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    sealed_in(content)
    changed = with_secret(content, lambda _: "sealed:1:k:new:new")
    if isinstance(changed, Problem):
        assert changed.problem
    else:
        assert json.loads(changed)["auth"]["secretAccessKey"] == "sealed:1:k:new:new"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"id": "a", "enabled": true }', '{"id": "a", "enabled": false }'),
        ('{"enabled" :true,\r\n "a": 1.50}\n', '{"enabled" :false,\r\n "a": 1.50}\n'),
        ('{\n  "b": {"enabled": true}\n}\n', '{\n  "b": {"enabled": true},\n  "enabled": false\n}\n'),
        ('{"id":"Zo\\u00eb é"}', '{"id":"Zo\\u00eb é", "enabled": false}'),
        ('{ "id": 1 }', '{ "id": 1, "enabled": false }'),
    ],
)  # fmt: skip
def test_only_the_flag_changes(before: str, after: str) -> None:
    assert with_switch(before.encode(), "enabled", on=False) == after.encode()
    assert with_switch(after.encode(), "enabled", on=False) == after.encode()
    assert with_switch(before.encode(), "enabled", on=True) == before.encode()


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _JSON, min_size=1), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_any_object_keeps_its_other_fields(value: dict[str, Any], indent: int | str | None, enabled: bool) -> None:  # noqa: FBT001
    content = json.dumps(value, indent=indent).encode()
    changed = with_switch(content, "enabled", on=enabled)
    if changed != content:
        assert json.loads(changed) == value | {"enabled": enabled}
    else:
        assert value.get("enabled", True) is enabled


@given(st.dictionaries(st.text(), _JSON), st.lists(st.lists(st.text() | st.integers(), max_size=3)))
def test_a_mask_leaves_json(value: dict[str, Any], paths: list[list[str | int]]) -> None:
    told = json.loads(masked(json.dumps(value), paths))
    if any(not path or path[0] not in value for path in paths):
        assert told == "***"
        return
    named = {path[0] for path in paths}
    assert {name: told[name] for name in value if name not in named} == {
        name: inner for name, inner in value.items() if name not in named
    }
    assert all(told[path[0]] == "***" for path in paths if len(path) == 1)


def test_a_document_is_paused_and_resumed() -> None:
    before = b'{ "id": "x" }'
    paused = with_switch(before, "paused", on=True)
    assert paused == b'{ "id": "x", "paused": true }'
    assert with_switch(paused, "paused", on=False) == b'{ "id": "x", "paused": false }'
    assert with_switch(before, "paused", on=False) == before
