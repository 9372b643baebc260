"""The settings: their defaults, their bounds, and the values that they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pushrail_stream.core.flood_guard import FloodLimits
from pushrail_stream.settings.eventbridge import MAX_ENTRIES
from pushrail_stream.settings.model import FloodGuardSettings, Settings
from pushrail_stream.settings.source import load_settings
from tests.support.settings_files import SECRET, file, problems


@given(
    window=st.floats(1, 3600),
    dead=st.integers(1, 10**9),
    share=st.floats(0, 1, exclude_min=True),
    customers=st.integers(2),
)
def test_every_accepted_flood_guard_can_be_made(window: float, dead: int, share: float, customers: int) -> None:
    section = FloodGuardSettings(window_secs=window, min_dead_letters=dead, share=share, min_customers=customers)
    FloodLimits(section.window_secs, section.min_dead_letters, section.share, section.min_customers)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().delivery.max_entries = 3  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings().vendor = "acme"  # type: ignore[misc]


@pytest.mark.parametrize("url", ["http://127.0.0.1:4010", "https://events.{region}.example.com"])
def test_an_endpoint_is_an_address(url: str) -> None:
    settings = load_settings(file(f"eventbridge: {{endpoint_url: '{url}'}}\n"))
    assert settings.eventbridge.endpoint_url == url


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("delivery: {max_entries: 1001}", f"delivery.max_entries: must be at most {MAX_ENTRIES} (is 1001)"),
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
        ("kafka: {auth: {method: kerberos, region: eu-west-1}}", "kafka.auth.method: must be 'msk_iam'"),
        ("kafka: {auth: {method: msk_iam}}", "kafka.auth.region: is required"),
        ("kafka: {auth: {method: msk_iam, region: Paris}}",
         "kafka.auth.region: must be an AWS region such as us-east-1"),
        ("kafka: {auth: {method: msk_iam, region: eu-west-1}, client: {sasl.mechanisms: PLAIN}}",
         "kafka.client: sasl.mechanisms cannot be set with kafka.auth, which decides the login"),
        ("kafka: {auth: {method: msk_iam, region: eu-west-1}, client: {security.protocol: SASL_PLAINTEXT}}",
         "kafka.client: security.protocol cannot be set with kafka.auth, which decides the login"),
        ("events: {format: avro}", "events.format: must be 'canonical', 'confluent_json' or 'cloudevents'"),
    ],
)  # fmt: skip
def test_a_bad_setting_is_refused_by_name(text: str, line: str) -> None:
    assert problems(text) == (f"{Path.cwd()}/pushrail.yaml: {line}",)


@pytest.mark.parametrize("value", ["10000", "'10000'", "-1"])
def test_milliseconds_may_be_a_number_or_its_digits(value: str) -> None:
    path = file(f"kafka: {{client: {{session.timeout.ms: {value}}}}}")
    assert str(load_settings(path).kafka.client.reveal()["session.timeout.ms"]) == value.strip("'")


def test_a_webhook_needs_the_variable_of_its_secret() -> None:
    address = {"webhook_url": "https://hooks.example.com"}
    with pytest.raises(ValidationError, match="must name the variable with the secret"):
        Settings.model_validate({"notices": address})
    with pytest.raises(ValidationError, match="must be env:NAME"):
        Settings.model_validate({"notices": address | {"webhook_secret": "whsec_c2VjcmV0"}})
    assert Settings.model_validate({"notices": address | {"webhook_secret": "env:HOOK"}}).notices.webhook_secret
