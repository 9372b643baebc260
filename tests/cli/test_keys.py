"""``destinations seal`` and ``keys``: secrets go in by standard input, come out sealed, and are never shown."""

from __future__ import annotations

import io
import json
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from pushrail_stream.cli import execute
from pushrail_stream.core.destination import Secret
from pushrail_stream.registry.documents import parse_document
from pushrail_stream.registry.keyring import Keyring, with_key
from pushrail_stream.registry.store import changing_alone, replace_file
from pushrail_stream.settings.eventbridge import AccessKey
from tests.support.commands import Shell
from tests.support.documents import ACCESS_KEY, customer, document, load
from tests.support.moto_server import moto_server, url_of
from tests.support.sealing_keys import no_kms, ring
from tests.support.signals import Terminal

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
OTHER_SECRET = "another/secret+of+the+customer"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with settings that name a keyring, and documents of which one has no secret yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config" / "destinations").mkdir(parents=True)
    (tmp_path / "config" / "pushrail.yaml").write_text("secrets: {keyring: keyring.json}\n")
    put(tmp_path, "acme", document(auth={name: ACCESS_KEY[name] for name in ("mode", "accessKeyId")}))
    put(tmp_path, "role", customer("role"))
    return tmp_path


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, [SECRET, OTHER_SECRET])


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The text on standard input."""

    def stand(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))

    stand(SECRET + "\n")
    return stand


def put(home: Path, name: str, content: Any) -> None:
    (home / "config" / "destinations" / f"{name}.json").write_text(json.dumps(content))


def stored(home: Path, name: str = "acme") -> dict[str, Any]:
    value: dict[str, Any] = json.loads((home / "config" / "destinations" / f"{name}.json").read_bytes())
    return value


def keys_in_use(home: Path) -> dict[str, Any]:
    """Every destination's key, opened by the keyring as it is now."""
    ring = Keyring.open(str(home / "config/keyring.json"), {}, no_kms)
    directory, change = load(
        home / "config" / "destinations",
        lambda content: parse_document(content, environ={}, default_max_in_flight=8, unseal=ring.unseal),
    )
    assert change.refusals == ()
    return {d.id: (d.bus.auth.access_key_id, d.bus.auth.secret) for d in directory if isinstance(d.bus.auth, AccessKey)}


def test_seal_writes_a_secret_to_its_document(shell: Shell, home: Path, typed: Any) -> None:
    del typed
    assert shell("keys", "generate", "--id", "k1")[0] == 0
    code, out, _ = shell("destinations", "seal", "dst_acme_8K2zRq")
    assert (code, out) == (0, "dst_acme_8K2zRq: sealed by key k1 (config/destinations/acme.json)\n")
    auth = stored(home)["auth"]
    assert auth["secretAccessKey"].startswith("sealed:1:k1:")
    assert keys_in_use(home) == {"dst_acme_8K2zRq": ("AKIDEXAMPLE123456", Secret(SECRET))}
    code, out, _ = shell("destinations", "validate")
    assert (code, out) == (0, "2 accepted, 0 refused\n")
    code, out, _ = shell("destinations", "show", "dst_acme_8K2zRq", "--json")
    assert json.loads(out)["auth"]["secretAccessKey"] == "***"


def test_key_id_and_secret_change_together(shell: Shell, home: Path, typed: Any) -> None:
    shell("keys", "generate", "--id", "k1")
    shell("destinations", "seal", "dst_acme_8K2zRq")
    typed(f"  {OTHER_SECRET}  ")
    code, out, _ = shell("destinations", "seal", "dst_acme_8K2zRq", "--access-key-id", "AKIANEW0000000000000", "--json")
    assert code == 0
    assert json.loads(out) == {
        "id": "dst_acme_8K2zRq",
        "result": "sealed",
        "document": "config/destinations/acme.json",
        "key": "k1",
    }
    assert keys_in_use(home) == {"dst_acme_8K2zRq": ("AKIANEW0000000000000", Secret(OTHER_SECRET))}


def test_a_typed_secret_is_not_shown(shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def prompt(text: str, **how: Any) -> str:
        asked.append((text, how))
        return SECRET

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("click.prompt", prompt)
    shell("keys", "generate", "--id", "k1")
    assert shell("destinations", "seal", "dst_acme_8K2zRq")[0] == 0
    assert asked == [("Secret access key", {"hide_input": True, "err": True})]
    assert keys_in_use(home)["dst_acme_8K2zRq"][1] == Secret(SECRET)


def test_a_plain_secret_is_refused_then_sealed(shell: Shell, home: Path, typed: Any) -> None:
    del typed
    shell("keys", "generate")
    put(home, "acme", document(auth={**ACCESS_KEY, "secretAccessKey": SECRET}))
    code, out, _ = shell("destinations", "validate")
    assert code == 2
    assert "auth.secretAccessKey: must not stand in the document in clear: `destinations seal` seals it" in out
    assert shell("destinations", "seal", "dst_acme_8K2zRq")[0] == 0
    assert SECRET not in (home / "config" / "destinations" / "acme.json").read_text()
    assert shell("destinations", "validate")[0] == 0


@pytest.mark.parametrize("text", ["", " \n", "two words", "x" * 513, "käse", "a\nb"])
def test_only_secrets_are_sealed(text: str, shell: Shell, home: Path, typed: Any) -> None:
    before = stored(home)
    shell("keys", "generate")
    typed(text)
    code, out, err = shell("destinations", "seal", "dst_acme_8K2zRq")
    assert (code, out) == (2, "")
    assert err == "error: the secret: must be one word of 1 to 512 printable ASCII characters\n"
    assert stored(home) == before


def test_a_failed_seal_names_its_document(shell: Shell, home: Path, typed: Any) -> None:
    assert shell("destinations", "seal", "dst_acme_8K2zRq") == (
        2, "", "error: config/keyring.json: there is no such keyring: `keys generate` makes it (secrets.keyring)\n"
    )  # fmt: skip
    shell("keys", "generate")
    code, _, err = shell("destinations", "seal", "dst_unknown")
    assert (code, err) == (
        1, "error: config/destinations: no destination dst_unknown; `destinations list` names them\n"
    )  # fmt: skip
    code, _, err = shell("destinations", "seal", "dst_role")
    assert (code, err) == (
        2, "error: config/destinations/role.json: auth.mode: must be ACCESS_KEY: a role has no secret\n"
    )  # fmt: skip
    put(home, "acme", {**stored(home), "region": "mars"})
    before = stored(home)
    code, _, err = shell("destinations", "seal", "dst_acme_8K2zRq")
    assert (code, err) == (
        2, "error: config/destinations/acme.json: region: must be an AWS region such as us-east-1\n"
    )  # fmt: skip
    typed(SECRET)
    code, _, err = shell("destinations", "seal", "dst_acme_8K2zRq", "--access-key-id", "short")
    assert code == 2
    assert "auth.accessKeyId: must be 16 to 128 capital letters and digits" in err
    assert stored(home) == before


def test_a_rehearsal_seals_nothing(shell: Shell, home: Path, typed: Any) -> None:
    del typed
    before = stored(home)
    assert shell("keys", "generate", "--id", "k1", "--dry-run")[1] == (
        "k1: would be added to config/keyring.json, as the primary key\n"
    )
    assert not (home / "config/keyring.json").exists()
    shell("keys", "generate", "--id", "k1")
    code, out, _ = shell("destinations", "seal", "dst_acme_8K2zRq", "--dry-run")
    assert (code, out) == (0, "dst_acme_8K2zRq: would be sealed by key k1 (config/destinations/acme.json)\n")
    assert stored(home) == before


def test_there_is_no_option_for_a_secret(shell: Shell) -> None:
    """Command lines are read by others and remembered by shells."""
    assert shell("destinations", "seal", "dst_acme_8K2zRq", "--secret", "x")[0] == 2


def test_a_secret_argument_is_not_repeated(shell: Shell) -> None:
    for words in ([SECRET], [SECRET, OTHER_SECRET]):
        assert shell("destinations", "seal", "dst_acme_8K2zRq", *words) == (
            2, "", "error: takes one ID and nothing else: the secret is asked for, or read from standard input\n"
        )  # fmt: skip


def test_a_secret_that_is_not_text_is_refused(shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stored(home)
    shell("keys", "generate")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8"))
    code, out, err = shell("destinations", "seal", "dst_acme_8K2zRq")
    assert (code, out) == (2, "")
    assert err == "error: the secret: must be one word of 1 to 512 printable ASCII characters\n"
    assert stored(home) == before


def test_keys_are_made_and_listed(shell: Shell, home: Path, typed: Any) -> None:
    del typed
    before = datetime.now(UTC).strftime("%Y-%m-%d")
    code, out, err = shell("keys", "generate")
    today = out.partition(":")[0]
    assert before <= today <= datetime.now(UTC).strftime("%Y-%m-%d")
    assert (code, out, err) == (0, f"{today}: added to config/keyring.json, as the primary key\n", "")
    assert stat.S_IMODE((home / "config/keyring.json").stat().st_mode) == 0o600
    shell("destinations", "seal", "dst_acme_8K2zRq")
    arn = "arn:aws:kms:eu-west-1:111122223333:key/12345678-90ab-cdef-1234-567890abcdef"
    code, out, err = shell("keys", "generate", "--id", "cloud", "--kms", arn, "--json")
    assert json.loads(out) == {"id": "cloud", "kind": "kms", "keyring": "config/keyring.json", "dryRun": False}
    assert err == "next: give the keyring to every worker, then `pushrail-stream keys rotate`\n"
    code, out, _ = shell("keys", "list", "--json")
    first, second = map(json.loads, out.splitlines())
    assert code == 0
    assert (first["id"], first["kind"], first["primary"], first["documents"]) == ("cloud", "kms", True, 0)
    assert (second["id"], second["kind"], second["primary"], second["documents"]) == (today, "local", False, 1)
    table = shell("keys", "list")[1]
    assert table.splitlines()[0].split() == ["id", "kind", "primary", "created", "documents"]
    ring = json.loads((home / "config/keyring.json").read_bytes())
    assert ring["keys"][today]["key"] not in table + out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--id", "a b"], "--id: must be 1 to 64 letters, digits, '.', '_' and '-'"),
        (["--id", "k", "--kms", "arn:aws:kms:eu-west-1:111122223333:alias/x"],
         "--kms: must be the ARN of a KMS key: arn:aws:kms:REGION:ACCOUNT:key/ID"),
    ],
)  # fmt: skip
def test_a_wrong_new_key_names_its_option(arguments: list[str], error: str, shell: Shell, home: Path) -> None:
    assert shell("keys", "generate", *arguments) == (2, "", f"error: {error}\n")
    assert not (home / "config/keyring.json").exists()


def test_a_key_id_is_used_once(shell: Shell, home: Path) -> None:
    shell("keys", "generate", "--id", "k")
    before = (home / "config/keyring.json").read_bytes()
    code, _, err = shell("keys", "generate", "--id", "k")
    assert (code, err) == (2, "error: config/keyring.json: there is a key k already: name another with --id\n")
    assert (home / "config/keyring.json").read_bytes() == before


def test_a_missing_keyring_says_what_to_do(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHRAIL_SECRETS__KEYRING", "null")
    assert shell("keys", "generate")[2] == (
        "error: secrets.keyring: is not set: name the file that the keys are to be kept in\n"
    )
    for command in (["keys", "list"], ["keys", "rotate"], ["destinations", "seal", "dst_acme_8K2zRq"]):
        code, _, err = shell(*command)
        assert (code, err) == (
            2, "error: secrets.keyring: is not set: name a file there, and `keys generate` makes it\n"
        )  # fmt: skip
    monkeypatch.setenv("PUSHRAIL_SECRETS__KEYRING", "env:RING")
    assert shell("keys", "generate")[2] == (
        "error: secrets.keyring: is an environment variable, which cannot be written: "
        "name a file instead (PUSHRAIL_SECRETS__KEYRING=PATH)\n"
    )
    monkeypatch.setenv("RING", ring("k").decode())
    assert shell("keys", "rotate") == (0, "0 documents sealed anew by key k\n", "")
    code, out, err = shell("keys", "rotate", "--remove-unused")
    assert (code, out) == (2, "")
    assert err.startswith("error: secrets.keyring: is an environment variable, which cannot be written")


def test_a_readable_keyring_gets_a_warning(shell: Shell, home: Path) -> None:
    shell("keys", "generate", "--id", "k")
    assert "warning" not in shell("keys", "list")[2]
    (home / "config/keyring.json").chmod(0o644)
    assert shell("keys", "list")[2] == (
        "warning: config/keyring.json: others than its owner may read or write the keyring: chmod 600\n"
    )


def test_rotation_names_the_removable_keys(shell: Shell, home: Path, typed: Any) -> None:
    del typed
    shell("keys", "generate", "--id", "old")
    shell("destinations", "seal", "dst_acme_8K2zRq")
    old = stored(home)["auth"]["secretAccessKey"]
    code, out, _ = shell("keys", "rotate")
    assert (code, out) == (0, "0 documents sealed anew by key old\n")
    shell("keys", "generate", "--id", "new")
    code, out, _ = shell("keys", "rotate", "--dry-run", "--remove-unused")
    assert out == "1 documents would be sealed anew by key new\nold: still needed by 1 documents\n"
    assert stored(home)["auth"]["secretAccessKey"] == old
    code, out, _ = shell("keys", "rotate")
    assert out == (
        "1 documents sealed anew by key new\n"
        "old: needed by no document, can go: --remove-unused takes it off the keyring\n"
    )
    assert stored(home)["auth"]["secretAccessKey"].startswith("sealed:1:new:")
    code, out, _ = shell("keys", "rotate", "--remove-unused", "--json")
    assert json.loads(out) == {
        "primary": "new", "resealed": [], "refusals": [], "left": [], "documents": {"new": 1},
        "unused": ["old"], "removed": ["old"], "dryRun": False,
    }  # fmt: skip
    assert list(json.loads((home / "config/keyring.json").read_bytes())["keys"]) == ["new"]
    assert keys_in_use(home) == {"dst_acme_8K2zRq": ("AKIDEXAMPLE123456", Secret(SECRET))}


def test_an_unopened_document_fails_the_rotation(shell: Shell, home: Path, typed: Any) -> None:
    del typed
    shell("keys", "generate", "--id", "old")
    shell("destinations", "seal", "dst_acme_8K2zRq")
    put(home, "moved", {**stored(home), "id": "dst_moved"})
    shell("keys", "generate", "--id", "new")
    code, out, err = shell("keys", "rotate", "--remove-unused")
    assert code == 1
    assert out == "1 documents sealed anew by key new\nold: still needed by 1 documents\n"
    first, last = err.splitlines()
    assert first.startswith("refused: config/destinations/moved.json: auth.secretAccessKey: does not open: ")
    assert last == "error: 1 documents could not be read or opened: no key can go"
    assert list(json.loads((home / "config/keyring.json").read_bytes())["keys"]) == ["old", "new"]


def test_a_document_without_secrets_is_skipped(shell: Shell, home: Path, typed: Any) -> None:
    del typed
    shell("keys", "generate", "--id", "old")
    shell("destinations", "seal", "dst_acme_8K2zRq")
    (home / "config" / "destinations" / "half.json").write_text('{"id": "dst_half", ')
    shell("keys", "generate", "--id", "new")
    code, out, _ = shell("keys", "rotate", "--remove-unused")
    assert code == 0
    sealed, columns, left, gone = out.splitlines()
    assert sealed == "1 documents sealed anew by key new"
    assert columns.split("  ")[0] == "left as it was"
    assert left.startswith("config/destinations/half.json  is not valid JSON: line 1 column ")
    assert gone == "old: needed by no document, taken off the keyring"


def test_a_key_in_use_may_be_listed_as_missing(shell: Shell, home: Path, typed: Any) -> None:
    del typed
    shell("keys", "generate", "--id", "lost")
    shell("destinations", "seal", "dst_acme_8K2zRq")
    (home / "config/keyring.json").unlink()
    shell("keys", "generate", "--id", "found")
    code, out, err = shell("keys", "list")
    assert code == 1
    assert [line.split() for line in out.splitlines()[2:]] == [["lost", "missing", "no", "1"]]
    assert err == "error: the keyring lacks lost: the secrets that they sealed cannot be opened\n"
    code, out, _ = shell("destinations", "validate")
    assert code == 2
    assert "is sealed by key lost, which the keyring does not have (config/keyring.json)" in out


def test_config_show_names_the_keyring_only(shell: Shell, home: Path) -> None:
    shell("keys", "generate", "--id", "k")
    _, out, _ = shell("config", "show", "--json")
    assert json.loads(out)["secrets"] == {"keyring": "config/keyring.json", "kms_endpoint_url": None}
    assert json.loads((home / "config/keyring.json").read_bytes())["keys"]["k"]["key"] not in out


@pytest.mark.parametrize("pad", ["", " \n"])
@pytest.mark.parametrize("command", [("config", "show"), ("keys", "list"), ("destinations", "validate")])
def test_a_keyring_given_as_a_path_is_not_shown(
    command: tuple[str, str], pad: str, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = ring("k").decode()
    monkeypatch.setenv("PUSHRAIL_SECRETS__KEYRING", pad + content)
    code, out, err = shell(*command)
    problem = "must say where the keyring is, not what it holds: a path, env:NAME or aws-kms:ARN"
    assert (code, out, err) == (2, "", f"error: PUSHRAIL_SECRETS__KEYRING: {problem}\n")


def test_reading_needs_no_keyring(shell: Shell, home: Path, typed: Any) -> None:
    del typed
    shell("keys", "generate", "--id", "k")
    shell("destinations", "seal", "dst_acme_8K2zRq")
    (home / "config/keyring.json").unlink()
    code, out, err = shell("destinations", "list")
    assert (code, err) == (0, "")
    assert "secret missing" not in out
    code, out, err = shell("destinations", "show", "dst_acme_8K2zRq", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["auth"]["secretAccessKey"] == "***"
    put(home, "acme", document(auth={**ACCESS_KEY, "secretAccessKey": "sealed:1:k:x"}))
    assert "auth.secretAccessKey: is not what `destinations seal` wrote" in shell("destinations", "list")[2]


def test_keys_made_at_once_are_all_kept(shell: Shell, home: Path) -> None:
    shell("keys", "generate", "--id", "a")
    path = home / "config/keyring.json"
    other = threading.Thread(target=execute, args=(["keys", "generate", "--id", "c"],))
    with changing_alone(path):
        before = path.read_bytes()
        other.start()
        other.join(1)  # time enough, were it let
        replace_file(path, with_key("", before, "b", kms=None, created=""))
    other.join()
    assert set(json.loads(path.read_bytes())["keys"]) == {"a", "b", "c"}


def test_a_key_used_meanwhile_stays(shell: Shell, home: Path, typed: Any) -> None:
    del typed
    shell("keys", "generate", "--id", "old")
    shell("destinations", "seal", "dst_acme_8K2zRq")
    before = stored(home)
    shell("keys", "generate", "--id", "new")
    rotation = threading.Thread(target=execute, args=(["keys", "rotate", "--remove-unused"],))
    with changing_alone(home / "config/keyring.json"):
        rotation.start()
        while ":new:" not in stored(home)["auth"]["secretAccessKey"]:
            rotation.join(0.01)
        put(home, "acme", before)
    rotation.join()
    assert set(json.loads((home / "config/keyring.json").read_bytes())["keys"]) == {"old", "new"}
    assert keys_in_use(home) == {"dst_acme_8K2zRq": ("AKIDEXAMPLE123456", Secret(SECRET))}


def test_a_kms_key_alone_is_enough(shell: Shell, home: Path, typed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    del typed
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIABASE000000000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "base-secret")
    with moto_server() as server:
        url = url_of(server)
        stock: Any = botocore.session.get_session().create_client("kms", region_name="eu-west-1", endpoint_url=url)
        arn = stock.create_key()["KeyMetadata"]["Arn"]
        monkeypatch.setenv("PUSHRAIL_SECRETS__KMS_ENDPOINT_URL", url)
        shell("keys", "generate", "--id", "local")
        assert shell("destinations", "seal", "dst_acme_8K2zRq")[0] == 0
        key_id = arn.rpartition("/")[2]
        shell("keys", "generate", "--id", key_id, "--kms", arn)
        code, out, _ = shell("keys", "rotate", "--remove-unused")
        assert (code, out) == (
            0,
            f"1 documents sealed anew by key {key_id}\nlocal: needed by no document, taken off the keyring\n",
        )
        (home / "config/keyring.json").unlink()
        monkeypatch.setenv("PUSHRAIL_SECRETS__KEYRING", f"aws-kms:{arn}")
        assert shell("destinations", "validate")[:2] == (0, "2 accepted, 0 refused\n")
        moved = stored(home)
        put(home, "moved", {**moved, "id": "dst_moved"})
        code, out, _ = shell("destinations", "validate")
        assert code == 2
        assert "moved.json: auth.secretAccessKey: does not open: " in out
    code, out, _ = shell("destinations", "validate")
    assert code == 2
    assert "acme.json: auth.secretAccessKey: KMS cannot be asked" in out
