"""Settings: what is read, what is refused and in which words, and what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pushrail_stream.core.flood_guard import FloodLimits
from pushrail_stream.errors import UsageError
from pushrail_stream.settings.client import MASK, ClientProperties, is_secret
from pushrail_stream.settings.model import FloodGuardSettings, Settings
from pushrail_stream.settings.source import load_settings, read_settings

SHIPPED = Path(__file__).parents[2] / "config" / "pushrail.yaml"
SECRET = "hunter2-S3cr3t"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file in the working directory, and no variable of the developer's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PUSHRAIL_CONFIG", raising=False)


def file(text: str) -> Path:
    path = Path("pushrail.yaml")
    path.write_text(text, encoding="utf-8")
    return path


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(UsageError) as caught:
        load_settings(file(text))
    return caught.value.problems


def test_without_a_file_the_defaults_hold() -> None:
    assert load_settings() == Settings()
    assert Settings().vendor is None
    assert Settings().kafka.bootstrap_servers == "localhost:9092"


def test_the_shipped_file_spells_out_every_default() -> None:
    settings = load_settings(SHIPPED)
    assert settings == Settings(vendor="acme")
    written = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    dumped = settings.model_dump(mode="json")
    assert {name: set(section) if isinstance(section, dict) else None for name, section in written.items()} == {
        name: set(section) if isinstance(section, dict) else None for name, section in dumped.items()
    }


@given(
    window=st.floats(1, 3600),
    dead=st.integers(1, 10**9),
    share=st.floats(0, 1, exclude_min=True),
    customers=st.integers(2),
)
def test_every_accepted_flood_guard_can_be_made(window: float, dead: int, share: float, customers: int) -> None:
    section = FloodGuardSettings(window_secs=window, min_dead_letters=dead, share=share, min_customers=customers)
    FloodLimits(section.window_secs, section.min_dead_letters, section.share, section.min_customers)


def test_the_flood_guard_has_one_set_of_defaults() -> None:
    section = FloodGuardSettings()
    limits = FloodLimits(section.window_secs, section.min_dead_letters, section.share, section.min_customers)
    assert limits == FloodLimits()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().delivery.max_entries = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings().vendor = "acme"  # type: ignore[misc]


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


@pytest.mark.parametrize("url", ["http://127.0.0.1:4010", "https://events.{region}.example.com"])
def test_an_endpoint_is_an_address(url: str) -> None:
    settings = load_settings(file(f"eventbridge: {{endpoint_url: '{url}'}}\n"))
    assert settings.eventbridge.endpoint_url == url


def test_a_section_left_empty_counts_as_absent() -> None:
    assert load_settings(file("kafka:\nvendor:\n")) == Settings()
    assert load_settings(file("# nothing\n")) == Settings()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("delivery: {max_entries: 11}", "delivery.max_entries: must be at most 10 (is 11)"),
        ("delivery: {max_entries: 0}", "delivery.max_entries: must be at least 1 (is 0)"),
        ("delivery: {max_request_bytes: 1048577}", "delivery.max_request_bytes: must be at most 1048576 (is 1048577)"),
        ("delivery: {flush_ms: -1}", "delivery.flush_ms: must be at least 0 (is -1)"),
        ("delivery: {max_in_flight: 0}", "delivery.max_in_flight: must be at least 1 (is 0)"),
        ("delivery: {hold_secs: 0}", "delivery.hold_secs: must be more than 0 (is 0)"),
        ("delivery: {hold_secs: .inf}", "delivery.hold_secs: must be a finite number"),
        ("delivery: {hold_secs: soon}", "delivery.hold_secs: must be a number"),
        ("delivery: {max_entries: many}", "delivery.max_entries: must be a whole number"),
        ("delivery: {hold_secs: 0.05}", "delivery.hold_secs: must not be shorter than flush_ms (100)"),
        ("delivery: {backoff_base_secs: 30}", "delivery.backoff_cap_secs: must be at least backoff_base_secs (30)"),
        ("delivery: {unrouted: drop}", "delivery.unrouted: must be 'skip' or 'dlq'"),
        ("limits: {max_buffered_events: 0}", "limits.max_buffered_events: must be at least 1 (is 0)"),
        ("flood_guard: {enabled: maybe}", "flood_guard.enabled: must be true or false"),
        ("flood_guard: {window_secs: 0.5}", "flood_guard.window_secs: must be at least 1 (is 0.5)"),
        ("flood_guard: {window_secs: 3601}", "flood_guard.window_secs: must be at most 3600 (is 3601)"),
        ("flood_guard: {window_secs: .nan}", "flood_guard.window_secs: must be a finite number"),
        ("flood_guard: {min_dead_letters: 0}", "flood_guard.min_dead_letters: must be at least 1 (is 0)"),
        ("flood_guard: {share: 0}", "flood_guard.share: must be more than 0 (is 0)"),
        ("flood_guard: {share: 1.5}", "flood_guard.share: must be at most 1 (is 1.5)"),
        ("flood_guard: {share: .nan}", "flood_guard.share: must be a finite number"),
        ("flood_guard: {min_customers: 1}", "flood_guard.min_customers: must be at least 2 (is 1)"),
        ("flood_guard: {min_dead: 10}", "flood_guard.min_dead: unknown setting; did you mean min_dead_letters?"),
        ("http: {port: 65536}", "http.port: must be at most 65535 (is 65536)"),
        ("ingest: {port: -1}", "ingest.port: must be at least 0 (is -1)"),
        ("kafka: {bootstrap_servers: ''}", "kafka.bootstrap_servers: must not be empty"),
        ("kafka: {group_protocol: share}", "kafka.group_protocol: must be 'classic' or 'consumer'"),
        (
            "kafka: {bootstrap_server: 'a:1'}",
            "kafka.bootstrap_server: unknown setting; did you mean bootstrap_servers?",
        ),
        ("kafak: {}", "kafak: unknown setting; did you mean kafka?"),
        ("zzzzz: 1", "zzzzz: unknown setting"),
        ("_env_file: x", "_env_file: unknown setting"),
        ("kafka: [a]", "kafka: must be a mapping of names to values"),
        ("kafka: {1: 2}", "kafka.1: has a key that is not text"),
        ("vendor: [a]", "vendor: must be text"),
        ("vendor: 'a b'", "vendor: must be 1 to 64 letters, digits, '.', '_' and '-'"),
        ("secrets: {keyring: ' '}", "secrets.keyring: must not be empty"),
        ("secrets: {keyring: 'env:pasted/Key='}", ("secrets.keyring: must name an environment variable in capitals: "
         "env:NAME")),
        ("secrets: {keyring: 'aws-kms:arn:aws:kms:eu-west-1:111122223333:alias/x'}", ("secrets.keyring: must name a "
         "KMS key by its ARN: aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID")),
        ("secrets: {kms_endpoint_url: here}", "secrets.kms_endpoint_url: must be an address such as https://host:port"),
        ("sts: {max_calls_per_second: 0}", "sts.max_calls_per_second: must be at least 1 (is 0)"),
        ("sts: {max_calls_per_second: 601}", "sts.max_calls_per_second: must be at most 600 (is 601)"),
        ("sts: {region: mars}", "sts.region: must be an AWS region such as us-east-1"),
        ("sts: {endpoint_url: 'localhost:1'}", "sts.endpoint_url: must be an address such as https://host:port"),
        ("sts: {endpoint_url: 'http://h:x'}", "sts.endpoint_url: must be an address such as https://host:port"),
        (f"sts: {{endpoint_url: 'http://u:{SECRET}@h'}}", "sts.endpoint_url: must not carry a user name or password"),
        ("topics: {events: 'a b'}", ("topics.events: must be a Kafka topic name: 1 to 249 letters, digits, '.', '_' "
         "and '-'")),
        ("topics: {events: '..'}", ("topics.events: must be a Kafka topic name: 1 to 249 letters, digits, '.', '_' "
         "and '-'")),
        ("topics: {dlq: pushrail.events}", ("topics.dlq: cannot be told apart from topics.events: "
         "every topic needs a name of its own")),
        ("topics: {retry: {pushrail_dlq: 1}}", ("topics.retry: pushrail_dlq cannot be told apart from topics.dlq: "
         "every topic needs a name of its own")),
        ("topics: {retry: {r.1: 1, r_1: 2}}", ("topics.retry: r_1 cannot be told apart from r.1: every topic needs a "
         "name of its own")),
        ("topics: {retry: {r.1: 10, r.2: 60, r.3: 60}}", ("topics.retry: r.2 and r.3 have one delay (60): "
            "every tier waits longer than the last")),
        ("topics: {retry: {}}", "topics.retry: must have at least 1 item(s)"),
        ("topics: {retry: {r: 0}}", "topics.retry.r: must be more than 0 (is 0)"),
        ("kafka: {client: {enable.auto.commit: true}}", ("kafka.client.enable.auto.commit: belongs to the engine (only "
         "offsets the engine has released are committed)")),
        ("kafka: {client: {group.id: x}}", "kafka.client.group.id: belongs to the engine (set kafka.group_id)"),
        ("kafka: {client: {stats_cb: x}}", ("kafka.client.stats_cb: belongs to the engine (the engine installs its own "
         "callbacks)")),
        ("kafka: {client: {Group: x}}", "kafka.client.Group: is not the name of a librdkafka property"),
        ("kafka: {client: {debug: [a]}}", "kafka.client.debug: must be text, a number, true or false"),
        ("kafka: {client: {debug: null}}", "kafka.client.debug: must be text, a number, true or false"),
        *(
            (f"kafka: {{client: {{auto.offset.reset: {value}}}}}",
             "kafka.client: auto.offset.reset must be earliest or error: anything else skips records")
            for value in ("latest", "LATEST", "Latest", "' latest'", "end", "largest", "none")
        ),
        *(
            (f"kafka: {{client: {{session.timeout.ms: {value}}}}}",
             "kafka.client: session.timeout.ms must be a number of milliseconds without a unit")
            for value in ("10s", "'10 000'", "5m")
        ),
        ("kafka: {client: {internal.termination.signal: 9}}", ("kafka.client.internal.termination.signal: belongs to "
         "the engine (the engine alone decides what a signal does to its process)")),
        ("kafka: {group_protocol: consumer, client: {session.timeout.ms: 9}}", ("kafka.client: session.timeout.ms "
         "cannot be set with group_protocol consumer: the brokers decide it")),
    ],
)  # fmt: skip
def test_a_bad_setting_is_refused_by_name(text: str, line: str) -> None:
    assert problems(text) == (f"pushrail.yaml: {line}",)


@pytest.mark.parametrize("value", ["10000", "'10000'", "-1"])
def test_milliseconds_may_be_a_number_or_its_digits(value: str) -> None:
    path = file(f"kafka: {{client: {{session.timeout.ms: {value}}}}}")
    assert str(load_settings(path).kafka.client.reveal()["session.timeout.ms"]) == value.strip("'")


def test_every_problem_has_its_line() -> None:
    assert problems("delivery: {max_entries: 11, flush_mss: 1}\nhttp: {port: x}\n") == (
        "pushrail.yaml: delivery.max_entries: must be at most 10 (is 11)",
        "pushrail.yaml: delivery.flush_mss: unknown setting; did you mean flush_ms?",
        "pushrail.yaml: http.port: must be a whole number",
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
    assert problems(text) == (f"pushrail.yaml: {line}",)


def test_text_that_is_not_utf8_is_refused() -> None:
    Path("pushrail.yaml").write_bytes(b"vendor: \xff")
    with pytest.raises(UsageError, match=r"^pushrail\.yaml: is not UTF-8 text$"):
        load_settings(Path("pushrail.yaml"))


@pytest.mark.parametrize("named", ["argument", "variable"])
def test_a_file_that_was_named_must_exist(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("absent.yaml") if named == "argument" else None
    if path is None:
        monkeypatch.setenv("PUSHRAIL_CONFIG", "absent.yaml")
    with pytest.raises(UsageError, match=r"^absent\.yaml: cannot be read: no such file or directory$"):
        load_settings(path)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("PUSHRAIL_DELIVERY__MAX_ENTRIES", "11", "PUSHRAIL_DELIVERY__MAX_ENTRIES: must be at most 10 (is 11)"),
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
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    "name",
    ["sasl.password", "sasl.username", "sasl.oauthbearer.client.secret", "ssl.key.password", "ssl.key.pem",
     "ssl.keystore.password", "ssl.certificate.pem", "ssl.key.location"],
)  # fmt: skip
def test_a_secret_property_stays_masked(name: str) -> None:
    settings = load_settings(file(f"kafka: {{client: {{{name}: {SECRET}, debug: broker, sasl.mechanisms: PLAIN}}}}"))
    assert settings.kafka.client.reveal()[name] == SECRET
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
