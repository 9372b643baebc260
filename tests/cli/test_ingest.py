from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pushrail_stream.ingest.api_keys import parse_keys, with_new_key
from tests.support.commands import Shell
from tests.support.ingest_server import NOW


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config" / "ingest-keys.json"


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, ())


def test_only_the_hash_of_a_new_key_is_kept(file: Path, shell: Shell) -> None:
    code, out, _ = shell("ingest", "keys", "create", "--vendor", "acme")
    key = out.split()[-1]
    assert code == 0
    assert key.startswith("prk_")
    assert key not in file.read_text()
    assert [k.vendor for k in parse_keys(file.read_bytes())] == ["acme"]
    assert file.stat().st_mode & 0o777 == 0o600
    code, out, _ = shell("ingest", "keys", "create", "--vendor", "acme", "--json")
    assert json.loads(out)["vendor"] == "acme"
    assert len(parse_keys(file.read_bytes())) == 2


def test_keys_are_listed_and_revoked(file: Path, shell: Shell) -> None:
    missing = "config/ingest-keys.json: there is no such file (ingest.keys_file), so there is no key\n"
    assert shell("ingest", "keys", "list") == (0, "id  vendor  created  revoked\n", missing)
    shell("ingest", "keys", "create", "--vendor", "acme")
    key_id = parse_keys(file.read_bytes())[0].id
    code, out, err = shell("ingest", "keys", "revoke", key_id)
    assert (code, out) == (0, f"{key_id}: revoked\n")
    assert err == "warning: vendor acme has no key left\n"
    listed = json.loads(shell("ingest", "keys", "list", "--json")[1])
    assert listed["id"] == key_id
    assert listed["revokedAt"]
    assert "sha256" not in listed


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create",), "--vendor: is missing, and so is the setting vendor"),
        (("create", "--vendor", "a/b"), "--vendor: must be 1 to 64 letters"),
        (("revoke", "nobody"), "there is no such file"),
    ],
)
def test_wrong_usage_is_exit_2_with_a_reason(words: tuple[str, ...], message: str, shell: Shell) -> None:
    code, out, err = shell("ingest", "keys", *words)
    assert (code, out) == (2, "")
    assert message in err


def test_a_damaged_file_is_named_and_kept(file: Path, shell: Shell) -> None:
    file.parent.mkdir()
    file.write_text('{"keys": 7}')
    for words in (("create", "--vendor", "acme"), ("list",), ("revoke", "x")):
        code, _, err = shell("ingest", "keys", *words)
        assert (code, file.read_text()) == (2, '{"keys": 7}')
        assert "ingest-keys.json: keys: " in err


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="where the system does not tell who waits for a lock")
def test_two_keys_made_at_once_are_both_kept(file: Path, shell: Shell) -> None:
    shell("ingest", "keys", "create", "--vendor", "acme")
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # as one who has read the file and not written it yet
        before = file.read_bytes()
        words = ("-m", "pushrail_stream", "ingest", "keys", "create", "--vendor", "other")
        with subprocess.Popen((sys.executable, *words), stdout=subprocess.PIPE) as other:
            while not re.search(rf"-> FLOCK .* {other.pid} ", Path("/proc/locks").read_text()):
                assert other.poll() is None, "it did not wait"
                time.sleep(0.02)
            file.write_bytes(with_new_key(before, "third", NOW).content)
            fcntl.flock(folder, fcntl.LOCK_UN)
            assert other.wait(60) == 0
    finally:
        os.close(folder)
    assert sorted(key.vendor for key in parse_keys(file.read_bytes())) == ["acme", "other", "third"]
