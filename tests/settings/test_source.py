"""Settings: the values that are read, the refusals and their words, and the secrets that stay hidden."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.errors import UsageError
from pushrail_stream.settings.client import ClientProperties, is_secret
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.source import load_settings, read_settings
from pushrail_stream.settings.values import MASK
from tests.support.settings_files import SECRET, file, problems

SHIPPED = Path(__file__).parents[2] / "config" / "pushrail.yaml"


def defaults_in(folder: str) -> Settings:
    """The defaults with their paths in this folder."""
    home, defaults = Path.cwd() / folder, Settings()
    return defaults.model_copy(
        update={
            "registry": defaults.registry.model_copy(update={"path": home / "destinations"}),
            "ingest": defaults.ingest.model_copy(update={"keys_file": home / "ingest-keys.json"}),
        }
    )


def test_a_path_is_relative_to_the_settings_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("etc").mkdir()
    Path("etc/mine.yaml").write_text(
        "registry: {path: ../documents}\nsecrets: {keyring: keys/ring.json}\nhistory: {index: /var/index}\n"
        "kafka: {client: {ssl.ca.location: ca.pem, https.ca.location: probe, sasl.kerberos.keytab: /k, "
        "debug: broker}}\n"
    )
    home = Path.cwd() / "etc"
    settings = load_settings(Path("etc/mine.yaml"))
    assert settings.registry.path == home / "../documents"
    assert settings.secrets.keyring == str(home / "keys/ring.json")
    assert settings.history.index == Path("/var/index")
    assert settings.ingest.keys_file == home / "ingest-keys.json"
    assert settings.kafka.client.reveal() == {
        "ssl.ca.location": str(home / "ca.pem"), "https.ca.location": "probe", "sasl.kerberos.keytab": "/k",
        "debug": "broker",
    }  # fmt: skip
    monkeypatch.setenv("PUSHRAIL_REGISTRY__PATH", "here")
    monkeypatch.setenv("PUSHRAIL_SECRETS__KEYRING", "env:RING")
    monkeypatch.setenv("PUSHRAIL_KAFKA__CLIENT", '{"ssl.ca.location": "ca.pem"}')
    settings = load_settings(Path("etc/mine.yaml"))
    assert settings.registry.path == Path.cwd() / "here"
    assert settings.secrets.keyring == "env:RING"
    assert settings.kafka.client.reveal() == {"ssl.ca.location": str(Path.cwd() / "ca.pem")}
    monkeypatch.setenv("PUSHRAIL_SECRETS__KEYRING", "null")
    assert load_settings(Path("etc/mine.yaml")).secrets.keyring is None


def test_without_a_file_the_defaults_hold() -> None:
    assert load_settings() == defaults_in("config")
    assert Settings().vendor is None
    assert Settings().kafka.bootstrap_servers == "localhost:9092"


def test_the_shipped_file_spells_out_every_default() -> None:
    settings = load_settings(SHIPPED)
    assert settings.model_copy(update={"vendor": None}) == defaults_in(str(SHIPPED.parent))
    assert settings.vendor == "acme"
    written = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    dumped = settings.model_dump(mode="json")
    assert {name: set(section) if isinstance(section, dict) else None for name, section in written.items()} == {
        name: set(section) if isinstance(section, dict) else None for name, section in dumped.items()
    }


def test_built_settings_ignore_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHRAIL_VENDOR", "other")
    assert Settings().vendor is None


def test_the_argument_decides_the_path_first(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config").mkdir()
    for name in ("config/pushrail.yaml", "variable.yaml", "argument.yaml"):
        Path(name).write_text(f"vendor: {Path(name).stem}", encoding="utf-8")
    assert load_settings().vendor == "pushrail"
    monkeypatch.setenv("PUSHRAIL_CONFIG", "variable.yaml")
    assert load_settings().vendor == "variable"
    assert load_settings(Path("argument.yaml")).vendor == "argument"


def test_the_environment_wins_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    path = file("vendor: acme\nkafka: {group_id: ours, bootstrap_servers: 'kafka:9092'}\n")
    monkeypatch.setenv("PUSHRAIL_KAFKA__GROUP_ID", "theirs")
    monkeypatch.setenv("PUSHRAIL_VENDOR", "globex")
    monkeypatch.setenv("PUSHRAIL_DELIVERY__MAX_ENTRIES", "3")
    loaded = read_settings(path)
    assert loaded.settings.kafka.group_id == "theirs"
    assert loaded.settings.kafka.bootstrap_servers == "kafka:9092"
    assert loaded.settings.vendor == "globex"
    assert loaded.settings.delivery.max_entries == 3
    assert loaded.origins == {
        "vendor": "PUSHRAIL_VENDOR",
        "kafka.group_id": "PUSHRAIL_KAFKA__GROUP_ID",
        "kafka.bootstrap_servers": "pushrail.yaml",
        "delivery.max_entries": "PUSHRAIL_DELIVERY__MAX_ENTRIES",
    }


def test_a_json_variable_replaces_a_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    path = file("topics: {retry: {r.1: 1, r.2: 2}}\nkafka: {client: {debug: all}}\n")
    monkeypatch.setenv("PUSHRAIL_TOPICS__RETRY", '{"only.5s": 5}')
    monkeypatch.setenv("PUSHRAIL_KAFKA__CLIENT", '{"socket.keepalive.enable": true, "fetch.min.bytes": 2}')
    settings = load_settings(path)
    assert settings.topics.retry == {"only.5s": 5}
    assert settings.kafka.client.reveal() == {"socket.keepalive.enable": True, "fetch.min.bytes": 2}


def test_null_unsets_and_an_empty_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    path = file("vendor: acme\nsts: {endpoint_url: 'http://localhost:4566', region: eu-west-1}\n")
    monkeypatch.setenv("PUSHRAIL_STS__ENDPOINT_URL", "null")
    monkeypatch.setenv("PUSHRAIL_VENDOR", "null")
    monkeypatch.setenv("PUSHRAIL_STS__REGION", "")
    settings = load_settings(path)
    assert (settings.sts.endpoint_url, settings.vendor, settings.sts.region) == (None, None, "eu-west-1")


def test_a_section_left_empty_counts_as_absent() -> None:
    assert load_settings(file("kafka:\nvendor:\n")) == defaults_in(".")
    assert load_settings(file("# nothing\n")) == defaults_in(".")


def test_every_problem_has_its_line() -> None:
    assert problems("delivery: {max_in_flight: 257, flush_mss: 1}\nhttp: {port: x}\n") == (
        f"{Path.cwd()}/pushrail.yaml: delivery.max_in_flight: must be at most 256 (is 257)",
        f"{Path.cwd()}/pushrail.yaml: delivery.flush_mss: unknown setting; did you mean flush_ms?",
        f"{Path.cwd()}/pushrail.yaml: http.port: must be a whole number",
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("kafka: {a: 1\nvendor: x\n", "line 2: not valid YAML: expected ',' or '}', but got ':'"),
        ("vendor: a\nkafka: {}\nvendor: b\n", "line 3: not valid YAML: vendor is set twice"),
        ("vendor: !!python/object:os.system x", ("line 1: not valid YAML: could not determine a constructor for the "
         "tag 'tag:yaml.org,2002:python/object:os.system'")),
        ("vendor: \x00", "not valid YAML"),
        ("- a", "must be a mapping of sections such as kafka and delivery"),
        ("1: a", "must be a mapping of sections such as kafka and delivery"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_with_a_line(text: str, line: str) -> None:
    assert problems(text) == (f"{Path.cwd()}/pushrail.yaml: {line}",)


def test_text_that_is_not_utf8_is_refused() -> None:
    Path("pushrail.yaml").write_bytes(b"vendor: \xff")
    with pytest.raises(UsageError, match=rf"^{Path.cwd()}/pushrail\.yaml: is not UTF-8 text$"):
        load_settings(Path("pushrail.yaml"))


@pytest.mark.parametrize("named", ["argument", "variable"])
def test_a_file_that_was_named_must_exist(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("absent.yaml") if named == "argument" else None
    if path is None:
        monkeypatch.setenv("PUSHRAIL_CONFIG", "absent.yaml")
    with pytest.raises(UsageError, match=rf"^{Path.cwd()}/absent\.yaml: cannot be read: no such file or directory$"):
        load_settings(path)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("PUSHRAIL_DELIVERY__MAX_IN_FLIGHT", "257", "PUSHRAIL_DELIVERY__MAX_IN_FLIGHT: must be at most 256 (is 257)"),
        ("PUSHRAIL_VENDOR", "a b", "PUSHRAIL_VENDOR: must be 1 to 64 letters, digits, '.', '_' and '-'"),
        (
            "PUSHRAIL_KAFKA__BOOTSTRAP_SERVER",
            "h:1",
            "PUSHRAIL_KAFKA__BOOTSTRAP_SERVER: unknown setting; did you mean PUSHRAIL_KAFKA__BOOTSTRAP_SERVERS?",
        ),
        (
            "PUSHRAIL_KAFKA_GROUP_ID",
            "x",
            "PUSHRAIL_KAFKA_GROUP_ID: unknown setting; did you mean PUSHRAIL_KAFKA__GROUP_ID?",
        ),
        ("PUSHRAIL_KAFKA__CLIENT", SECRET, "PUSHRAIL_KAFKA__CLIENT: must be a JSON object of names to values"),
        ("PUSHRAIL_KAFKA__CLIENT", '{"acks": 0}', ("PUSHRAIL_KAFKA__CLIENT: acks: belongs to the engine (every produce "
         "is idempotent and acknowledged by all in-sync replicas)")),
    ],
)  # fmt: skip
def test_a_bad_variable_is_refused_by_name(name: str, value: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert caught.value.problems == (line,)


@pytest.mark.parametrize("name", ["PUSHRAIL_QQ__X", "PUSHRAIL_KAFKA__CLIENT__DEBUG", "PUSHRAIL_KAFKA"])
def test_an_unknown_variable_of_a_section_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "{}")
    with pytest.raises(UsageError, match=rf"^{name}: unknown setting"):
        load_settings()


def test_foreign_variables_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHRAIL_STREAM_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("PUSHRAIL_INGEST_PORT", "tcp://10.0.0.1:8080")
    monkeypatch.setenv("PUSHRAIL_ACME_SECRET", SECRET)
    assert load_settings() == defaults_in("config")


@pytest.mark.parametrize(
    "name",
    ["sasl.password", "sasl.username", "sasl.oauthbearer.client.secret", "ssl.key.password", "ssl.key.pem",
     "ssl.keystore.password", "ssl.certificate.pem", "ssl.key.location"],
)  # fmt: skip
def test_a_secret_property_stays_masked(name: str) -> None:
    settings = load_settings(file(f"kafka: {{client: {{{name}: {SECRET}, debug: broker, sasl.mechanisms: PLAIN}}}}"))
    assert str(settings.kafka.client.reveal()[name]).endswith(SECRET)
    shown = settings.model_dump(mode="json")["kafka"]["client"]
    assert shown == {name: MASK, "debug": "broker", "sasl.mechanisms": "PLAIN"}
    for text in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.kafka.client)):
        assert SECRET not in text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("sasl.password"), inner),
    max_leaves=8,
)


@given(section=st.sampled_from([*Settings.model_fields, "other"]), value=VALUES, key=st.text(max_size=8))
def test_any_values_are_accepted_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, section: str, value: object, key: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    keys = getattr(Settings.model_fields.get(section), "annotation", None)
    known = list(getattr(keys, "model_fields", {}))
    document = {section: dict.fromkeys([key, *known], value)}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_settings(path)
    assert SECRET not in str(caught.value)
    assert all(line.startswith(f"{path}: ") for line in caught.value.problems)


@given(st.dictionaries(st.from_regex(r"sasl\.[a-z.]{1,20}|[a-z]{1,9}\.password", fullmatch=True), st.just(SECRET)))
def test_no_secret_property_is_ever_shown(properties: dict[str, object]) -> None:
    client = ClientProperties(properties)
    hidden = {name for name in properties if is_secret(name)}
    assert {name for name, value in client.masked().items() if value == MASK} == hidden
    assert repr(client).count(SECRET) == len(properties) - len(hidden)
