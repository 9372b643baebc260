"""Sealed secrets open in their place, and nowhere else, and not when a single character has changed."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.destination import Secret
from pushrail_stream.registry.sealing import LocalKey, Place, Token, seal, unseal
from tests.support.sealing_keys import PLACE

KEY_BYTES = bytes(range(32))
KEY = LocalKey(KEY_BYTES)
SECRET = Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
PLACES = st.builds(Place, TEXT, TEXT, TEXT)
TOKEN_TEXT = str(seal(SECRET, PLACE, "k1", KEY))


@given(TEXT, PLACES)
def test_a_sealed_secret_opens_in_its_place(secret: str, place: Place) -> None:
    text = str(seal(Secret(secret), place, "k1", KEY))
    token = Token.parse(text)
    assert token is not None
    assert (str(token), token.key_id) == (text, "k1")
    assert unseal(token, place, KEY) == Secret(secret)
    assert LocalKey(KEY_BYTES).unwrap(token.wrapped, place.context()) is not None


@given(PLACES)
def test_a_sealed_secret_opens_in_no_other_place(place: Place) -> None:
    token = seal(SECRET, PLACE, "k1", KEY)
    assert (unseal(token, place, KEY) is None) == (place != PLACE)


@pytest.mark.parametrize("field", ["vendor", "destination_id", "field"])
def test_each_part_of_the_place_binds_both_layers(field: str) -> None:
    token = seal(SECRET, PLACE, "k1", KEY)
    elsewhere = PLACE._replace(**{field: "other"})
    assert unseal(token, elsewhere, KEY) is None
    assert KEY.unwrap(token.wrapped, elsewhere.context()) is None
    # The data key alone does not open it for another place.
    data_key = KEY.unwrap(token.wrapped, PLACE.context())
    assert data_key is not None

    class Careless:
        def new_data_key(self, context: object) -> tuple[bytes, bytes]:
            raise AssertionError(context)

        def unwrap(self, wrapped: bytes, context: object) -> bytes | None:
            del wrapped, context
            return data_key

    assert unseal(token, PLACE, Careless()) == SECRET
    assert unseal(token, elsewhere, Careless()) is None


def test_another_key_or_key_name_does_not_open_it() -> None:
    token = seal(SECRET, PLACE, "k1", KEY)
    assert unseal(token, PLACE, LocalKey(bytes(32))) is None
    assert unseal(token._replace(key_id="k2"), PLACE, KEY) is None


def test_two_sealings_share_nothing() -> None:
    one, two = seal(SECRET, PLACE, "k1", KEY), seal(SECRET, PLACE, "k1", KEY)
    assert one.wrapped[:12] != two.wrapped[:12]
    assert one.sealed[:12] != two.sealed[:12]
    assert KEY.unwrap(one.wrapped, PLACE.context()) != KEY.unwrap(two.wrapped, PLACE.context())


def test_the_form_is_what_its_description_says() -> None:
    """Opened by hand, with nothing of ours."""
    version, number, key_id, wrapped, sealed = TOKEN_TEXT.split(":")
    assert (version, number, key_id) == ("sealed", "1", "k1")
    raw, inner = (urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (wrapped, sealed))
    context = {
        "pushrail:destination": "dst_acme_8K2zRq",
        "pushrail:field": "auth.secretAccessKey",
        "pushrail:vendor": "acme",
    }
    data_key = AESGCM(KEY_BYTES).decrypt(raw[:12], raw[12:], json.dumps(context).encode())
    bound = json.dumps(["sealed:1", "k1", "acme", "dst_acme_8K2zRq", "auth.secretAccessKey"]).encode()
    assert AESGCM(data_key).decrypt(inner[:12], inner[12:], bound).decode() == SECRET.reveal()


@given(st.integers(0, len(TOKEN_TEXT) - 1), st.characters(codec="utf-8"))
def test_one_changed_character_breaks_a_token(index: int, character: str) -> None:
    text = TOKEN_TEXT[:index] + character + TOKEN_TEXT[index + 1 :]
    token = Token.parse(text)
    if text != TOKEN_TEXT and token is not None:
        assert unseal(token, PLACE, KEY) is None


@given(st.integers(0, len(TOKEN_TEXT) - 1))
def test_one_missing_character_breaks_a_token(length: int) -> None:
    token = Token.parse(TOKEN_TEXT[:length])
    assert token is None or unseal(token, PLACE, KEY) is None


@given(st.text() | st.from_regex(r"sealed:1:[A-Za-z0-9._-]{1,8}:[A-Za-z0-9_=-]{0,60}:[A-Za-z0-9_=-]{0,60}"))
def test_any_text_is_no_token_or_does_not_open(text: str) -> None:
    token = Token.parse(text)
    assert token is None or unseal(token, PLACE, KEY) is None


def test_a_keys_repr_hides_it() -> None:
    assert repr(KEY) == "LocalKey(***)"
