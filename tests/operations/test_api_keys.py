"""API keys are made, listed and revoked in their file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pushrail_stream.errors import UsageError
from pushrail_stream.ingest.api_keys import ApiKeys
from pushrail_stream.operations.api_keys import api_keys, create_api_key, revoke_api_key
from pushrail_stream.settings.model import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"vendor": "acme", "ingest": {"keys_file": str(tmp_path / "keys" / "keys.json")}})


def test_a_new_key_opens_for_its_vendor(settings: Settings) -> None:
    assert api_keys(settings) == ()
    new, vendor = create_api_key(settings, None)
    other, other_vendor = create_api_key(settings, "globex")
    assert (vendor, other_vendor) == ("acme", "globex")
    assert [key.vendor for key in api_keys(settings)] == ["acme", "globex"]
    keys = ApiKeys(settings.ingest.keys_file)
    for secret, expected in ((new.secret, "acme"), (other.secret, "globex")):
        found = keys.find(secret)
        assert found is not None
        assert found.vendor == expected


def test_the_file_is_private(settings: Settings) -> None:
    create_api_key(settings, None)
    assert stat.S_IMODE(settings.ingest.keys_file.stat().st_mode) == 0o600


def test_the_vendors_last_key_is_reported(settings: Settings) -> None:
    for _ in range(2):
        create_api_key(settings, None)
    first, second = (key.id for key in api_keys(settings))
    assert revoke_api_key(settings, first) is None
    assert revoke_api_key(settings, second) == "acme"
    assert all(key.revoked_at is not None for key in api_keys(settings))


def test_a_missing_vendor_is_named(settings: Settings) -> None:
    with pytest.raises(UsageError, match=r"^--vendor: is missing, and so is the setting vendor$"):
        create_api_key(settings.model_copy(update={"vendor": None}), None)


def test_a_key_of_no_file_cannot_be_revoked(settings: Settings) -> None:
    with pytest.raises(UsageError, match="there is no such file, so no key k1"):
        revoke_api_key(settings, "k1")


def test_a_damaged_file_is_named(settings: Settings) -> None:
    settings.ingest.keys_file.parent.mkdir()
    settings.ingest.keys_file.write_text("{")
    with pytest.raises(UsageError, match=f"^{settings.ingest.keys_file}: "):
        api_keys(settings)
