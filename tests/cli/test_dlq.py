"""Commands about dead letters and past events: their output, their refusals, and Ctrl-C at its worst."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from pushrail_stream.core.copy import Copy
from pushrail_stream.core.delivery import Problem
from pushrail_stream.core.record import Headers, Record
from pushrail_stream.kafka import replay_journal as module
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.replay_journal import ReplayJournal
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.kafka.topics import plan_topics
from pushrail_stream.operations.times import now_ms
from pushrail_stream.settings.model import Settings
from tests.support.builders import SECRET, event, with_access_key
from tests.support.commands import Desk, Shell
from tests.support.workers import ends, make_topics, settings_for

pytestmark = pytest.mark.kafka


class Interrupted(Producer):
    """Ctrl-C comes twice while Kafka commits."""

    def commit_transaction(self, timeout: float = -1) -> Any:
        signal.raise_signal(signal.SIGINT)
        super().commit_transaction(timeout)
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def _default_sigint() -> Iterator[None]:
    """Python's own handler of SIGINT, whatever handler this process has."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def settings(real_kafka: str) -> Settings:
    settings = settings_for(real_kafka, "http://127.0.0.1:1", tiers=(1,))
    make_topics(settings)
    return settings


@pytest.fixture
def shell(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    desk = Desk(tmp_path, settings)
    desk.put([with_access_key(0)])
    monkeypatch.setenv("CUSTOMER_SECRET", SECRET)
    monkeypatch.setenv("PUSHRAIL_CONFIG", str(desk.config))
    return Shell(capsys, [SECRET])


def dead(number: int, **changes: Any) -> Copy:
    """The dead letter of event ``number``."""
    headers = changes.pop("own", ())
    value = changes.pop("value", event(0, number))
    usual: dict[str, Any] = {
        "record": Record("events", 0, number, b"acct_0", value, headers, 0), "reason": "blocked", "attempts": 1,
        "failed_at_ms": 1_795_514_400_000, "destination_id": "dst_0",
        "problem": Problem(changes.pop("code", "AccessDenied"), "no"),
    }  # fmt: skip
    return Copy(**usual | changes)


def make_dead_letters(settings: Settings, *letters: Copy, own: Headers | None = None) -> None:
    """Write dead letters to partition 0 of the DLQ; with these headers alone, if given."""
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 0})
    for letter in letters:
        headers: Any = list(letter.headers() if own is None else own)
        producer.produce(settings.topics.dlq, letter.record.value, letter.record.key, 0, headers=headers)
    assert producer.flush(30) == 0


def produce(settings: Settings, numbers: range) -> None:
    """Events of these numbers."""
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 0})
    for number in numbers:
        producer.produce(settings.topics.events, event(0, number), "acct_0")
    assert producer.flush(30) == 0


def copies(settings: Settings) -> Counter[bytes | None]:
    """The committed copies. A commit is acknowledged before all can read it; opening the journal waits for that."""
    [topic] = settings.topics.retry
    ReplayJournal(checked_kafka(settings), settings.topics.replays)
    with Scan(checked_kafka(settings), topic) as scan:
        return Counter(record.value for batch in scan for record in batch)


@pytest.mark.usefixtures("_default_sigint")
def test_committed_dead_letters_count_as_written(
    settings: Settings, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dead_letters(settings, *map(dead, range(5)))
    with monkeypatch.context() as patch:
        patch.setattr(module, "Producer", Interrupted)
        code, _, err = shell("replay", "dlq", "--all", "--rate", "2")
    assert code == 130
    assert "interrupted: 2 deliveries of rp-" in err
    assert "run it again to go on" in err
    assert copies(settings).total() == 2
    code, out, _ = shell("replay", "dlq", "--all")
    assert code == 0
    assert "left out: 2, replayed before" in out
    assert copies(settings) == Counter(event(0, number) for number in range(5))


@pytest.mark.usefixtures("_default_sigint")
def test_a_replay_goes_on_after_an_early_end(settings: Settings, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    produce(settings, range(5))
    with monkeypatch.context() as patch:
        patch.setattr(module, "Producer", Interrupted)
        code, _, err = shell("replay", "events", "--customer", "acct_0", "--since", "1h")
    assert (code, copies(settings).total()) == (130, 0)
    assert "interrupted: 0 deliveries of rp-" in err
    [replay_id] = {word for word in err.split() if word.startswith("rp-")}
    produce(settings, range(5, 7))  # too late for that replay
    code, out, err = shell("replay", "events", "--resume", replay_id)
    assert (code, out.splitlines()[-1]) == (0, f"{replay_id}: 5 deliveries are on their way")
    assert f"`attempts --replay {replay_id}` shows their attempts" in err
    assert copies(settings) == Counter(event(0, number) for number in range(5))


def test_large_letters_go_in_small_transactions(
    settings: Settings, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction lives for 15 seconds: 500 letters of a megabyte each would never be through."""
    commits: list[int] = []

    class Counting(Producer):
        def commit_transaction(self, timeout: float = -1) -> Any:
            commits.append(1)
            return super().commit_transaction(timeout)

    make_dead_letters(
        settings, *(dead(number, value=event(0, number, payload={"x": "y" * 900_000})) for number in range(24))
    )
    monkeypatch.setattr(module, "Producer", Counting)
    assert shell("replay", "dlq", "--all")[0] == 0
    assert (len(commits), copies(settings).total()) == (3, 24)


def test_a_letter_is_found_by_place_or_content(settings: Settings, shell: Shell) -> None:
    topic = settings.topics.dlq
    make_dead_letters(settings, dead(7), dead(8, code="Other"), dead(7, destination_id="dst_b"))
    shown = [json.loads(line) for line in shell("dlq", "show", f"{topic}/0/1", "--json")[1].splitlines()]
    assert [(one["origin"], one["code"], one["event"]["idempotencyKey"]) for one in shown] == [
        ("events/0/8", "Other", "key-8")
    ]
    for words, found in (
        (("events/0/7",), ["dst_0", "dst_b"]),
        (("events/0/7", "--limit", "1"), ["dst_0"]),
        (("events/0/7", "--destination", "dst_b"), ["dst_b"]),
        (("--code", "AccessDenied"), ["dst_0", "dst_b"]),
        (("--fault", "customer", "--limit", "2"), ["dst_0", "dst_0"]),
    ):
        lines = shell("dlq", "show", *words, "--json")[1].splitlines()
        assert [json.loads(line)["destination"] for line in lines] == found, words
    for position in (f"{topic}/0/3", f"{topic}/99/0", "events/0/9", f"{topic}/0/{2**63 - 1}"):
        assert shell("dlq", "show", position) == (
            1,
            "",
            f"error: {position}: there is no such dead letter in {topic}\n",
        )
    assert shell("dlq", "show", f"{topic}/0/1", "--code", "AccessDenied")[0] == 1
    assert "POSITION: is required, or an option" in shell("dlq", "show")[2]
    assert "POSITION: must be topic/partition/offset" in shell("dlq", "show", "7")[2]


def test_a_record_without_an_event_is_dumped(settings: Settings, shell: Shell) -> None:
    value = bytes(range(256)) * 5
    own = (("x", b"1"), ("x", b"2"), ("nothing", None), ("binary", b"\xff"))
    make_dead_letters(settings, dead(1, value=value, reason="undecodable", destination_id=None, own=own))
    position = f"{settings.topics.dlq}/0/0"
    lines = shell("dlq", "show", position)[1].splitlines()
    assert "fault           producer" in lines
    assert [line for line in lines if line.startswith("header")] == [
        "header          x: 1", "header          x: 2", "header          nothing", r"header          binary: \xff",
    ]  # fmt: skip
    assert "00000020  20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d 2e 2f   !\"#$%&'()*+,-./" in lines
    assert "000000f0  f0 f1 f2 f3 f4 f5 f6 f7 f8 f9 fa fb fc fd fe ff  ................" in lines
    assert sum(line.startswith("0000") for line in lines) == 64
    assert "... 256 bytes more" in lines
    told = json.loads(shell("dlq", "show", position, "--json")[1])
    assert (told["event"], told["bytes"], told["hex"]) == (None, 1280, value[:1024].hex())
    assert told["headers"] == [
        {"name": "x", "value": "1"}, {"name": "x", "value": "2"},
        {"name": "nothing", "value": None}, {"name": "binary", "value": r"\xff"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "source"),
    [
        (event(0, 1, eventType=7, source="b"), "b"),
        (event(0, 1, eventType=7, source="b").replace(b'"b"', b'"\xff"'), "\ufffd"),
    ],
    ids=["wrong type", "not UTF-8"],
)
def test_a_malformed_event_is_found_and_shown_as_json(
    settings: Settings, shell: Shell, value: bytes, source: str
) -> None:
    make_dead_letters(settings, dead(1, value=value, reason="undecodable", destination_id=None))
    [row] = map(json.loads, shell("dlq", "list", "--customer", "acct_0", "--json")[1].splitlines())
    assert (row["reason"], row["customer"], row["count"]) == ("undecodable", "acct_0", 1)
    out = shell("dlq", "show", "--key", "key-1")[1]
    assert f'\n  "source": "{source}",\n' in out
    told = json.loads(shell("dlq", "show", "--event-type", "7", "--json")[1])
    assert (told["event"]["source"], told["hex"]) == (source, value[:1024].hex())


@pytest.mark.parametrize("value", [b"NaN", b"[" * 50_000 + b"]" * 50_000, b"1" * 5_000], ids=["NaN", "deep", "long"])
def test_a_value_that_cannot_be_printed_as_json_is_dumped(settings: Settings, shell: Shell, value: bytes) -> None:
    make_dead_letters(settings, dead(1, value=value, reason="undecodable", destination_id=None))
    code, out, _ = shell("dlq", "show", f"{settings.topics.dlq}/0/0")
    assert (code, "00000000  " in out) == (0, True)


def test_the_deepest_event_is_shown(settings: Settings, shell: Shell) -> None:
    payload: Any = {}
    deepest = b'{"a":' * 998 + b"1" + b"}" * 998
    value = event(0, 1, payload=payload).replace(b'"payload": {}', b'"payload": ' + deepest)
    make_dead_letters(settings, dead(1, value=value))
    position = f"{settings.topics.dlq}/0/0"
    code, out, _ = shell("dlq", "show", position)
    assert (code, out.count('"a": {')) == (0, 997)
    code, out, _ = shell("dlq", "show", position, "--json")
    assert (code, out.count('"a":{')) == (0, 997)


def test_a_replay_in_progress_is_neither_missing_nor_done(settings: Settings, shell: Shell) -> None:
    topic = settings.topics.events
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 0})
    for number in range(3):
        producer.produce(topic, event(0, number), "acct_0", 0)
    assert producer.flush(30) == 0
    now = now_ms()
    make_dead_letters(
        settings,
        *(
            dead(number, record=Record(topic, 0, number, b"acct_0", event(0, number), (), now), failed_at_ms=now)
            for number in range(3)
        ),
    )

    def counts() -> tuple[int, int, int]:
        told = json.loads(shell("check", "--since", "1h", "--json")[1])
        return told["deliveries"]["dead_lettered"], told["deliveries"]["pending"], told["replaying"]

    assert counts() == (3, 0, 0)
    assert shell("replay", "dlq", "--key", "key-1")[0] == 0
    assert counts() == (2, 1, 1)
    [row] = map(json.loads, shell("dlq", "list", "--json")[1].splitlines())
    assert (row["count"], row["replayed"]) == (2, 1)
    story = shell("attempts", "--key", "key-1")[1]
    [told] = map(json.loads, shell("dlq", "show", "--key", "key-1", "--json")[1].splitlines())
    assert f" of replay {told['replayedBy']}" in story
    assert f"on {next(iter(settings.topics.retry))}/" in story
    assert shell("replay", "dlq", "--destination", "dst_0")[0] == 0
    assert shell("dlq", "list", "--json")[1] == ""
    [row] = map(json.loads, shell("dlq", "list", "--all", "--json")[1].splitlines())
    assert (row["count"], row["replayed"]) == (0, 3)


def test_a_refused_document_is_not_deleted(settings: Settings, shell: Shell, tmp_path: Path) -> None:
    make_dead_letters(settings, dead(1))
    (tmp_path / "destinations" / "dst_0.json").write_text("{}")
    code, out, err = shell("replay", "dlq", "--all", "--dry-run")
    assert code == 0
    assert "left out: 1, its destination was deleted, or its document is refused (`destinations validate`)" in out
    assert f"refused: {tmp_path / 'destinations' / 'dst_0.json'}: " in err
    _, _, err = shell("check", "--since", "1h")
    assert "deliveries to destinations with refused documents are not looked for" in err


def test_the_fault_is_shown_and_filtered(settings: Settings, shell: Shell) -> None:
    make_dead_letters(settings, dead(1), dead(2, value=b"{", reason="undecodable", destination_id=None))
    make_dead_letters(settings, dead(3), own=(("a", b"b"),))
    rows = [json.loads(line) for line in shell("dlq", "list", "--json")[1].splitlines()]
    assert {row["reason"]: row["fault"] for row in rows} == {
        "blocked": "customer", "undecodable": "producer", "foreign": "producer",
    }  # fmt: skip
    out = shell("replay", "dlq", "--dry-run", "--fault", "producer")[1].splitlines()
    assert out[1:] == [
        "left out: 1, cannot be decoded",
        "left out: 1, no dead letter of ours (foreign)",
        out[-1],
    ]
    table = shell("replay", "dlq", "--all", "--dry-run")[1].splitlines()
    assert table[0].split() == ["destination", "reason", "fault", "deliveries"]
    assert table[1].split() == ["dst_0", "blocked", "customer", "1"]


def test_letters_without_hope_are_left_out(settings: Settings, shell: Shell) -> None:
    make_dead_letters(settings, dead(1), dead(2, reason="rejected"), dead(3, reason="rejected"))
    make_dead_letters(
        settings, dead(4, reason="oversize"), dead(5, value=b"{", reason="undecodable", destination_id=None)
    )
    code, out, err = shell("replay", "dlq")
    assert (code, out) == (2, "")
    assert "another filter is required; --all replays every dead letter" in err
    code, out, _ = shell("replay", "dlq", "--all", "--json")
    told = json.loads(out)
    assert (code, told["sent"], told["leftOut"]) == (0, 1, {
        "rejected, which can only fail again (--reason rejected replays it)": 2,
        "oversize, which can only fail again (--reason oversize replays it)": 1,
        "cannot be decoded": 1,
    })  # fmt: skip
    assert json.loads(shell("replay", "dlq", "--reason", "rejected", "--json")[1])["sent"] == 2
    assert copies(settings) == Counter(event(0, number) for number in (1, 2, 3))


def test_a_person_is_asked(settings: Settings, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dead_letters(settings, dead(1), dead(2))
    answers, asked = ["maybe", "no", "Y"], []

    def answer(question: str, **_: object) -> str:
        asked.append(question)
        return answers.pop(0)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.prompt", answer)
    code, out, err = shell("replay", "dlq", "--destination", "dst_0", "--limit", "1")
    assert (code, out.splitlines()[1:], err) == (
        1,
        ["dst_0        blocked  customer  1", "1 deliveries would be sent"],
        "error: the answer must be y or n\nerror: nothing is done: the answer was no\n",
    )
    assert copies(settings).total() == 0
    code, out, _ = shell("replay", "dlq", "--destination", "dst_0", "--limit", "1")
    assert (code, out.count("1 deliveries ")) == (0, 2)
    assert shell("replay", "dlq", "--all", "--yes")[0] == 0
    assert "0 deliveries would be sent" in shell("replay", "dlq", "--all")[1], "there is nothing to ask"
    assert asked == ["Send these 1 deliveries? [y/N]"] * 3
    assert copies(settings) == Counter(event(0, number) for number in (1, 2))


def test_impossible_times_are_wrong_usage(shell: Shell) -> None:
    for command in (("dlq", "list"), ("dlq", "show"), ("replay", "dlq"), ("replay", "events", "--all"), ("check",)):
        code, _, err = shell(*command, "--since", "1h", "--until", "2h")
        assert (code, err) == (2, "error: --until: must be later than --since\n"), command
    assert shell("dlq", "list", "--since", "900000d")[0] == 0, "everything is younger"
    assert shell("dlq", "list", "--since", "0001-01-01T00:00:00Z")[0] == 2


def test_a_fast_clock_hides_no_event(settings: Settings, shell: Shell) -> None:
    """Its record lies before others that are older: the end of a time is not at one offset."""
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 0})
    hour_ms = 3_600_000
    now = now_ms()
    for number, at in ((0, now - 3 * hour_ms), (1, now), (2, now - 3 * hour_ms)):
        producer.produce(settings.topics.events, event(0, number), "acct_0", 0, timestamp=at)
    assert producer.flush(30) == 0
    assert shell("replay", "events", "--all", "--since", "4h", "--until", "2h")[0] == 0
    assert copies(settings) == Counter([event(0, 0), event(0, 2)])


def test_an_unmoved_partition_keeps_its_marks(settings: Settings, shell: Shell) -> None:
    """The map of settled offsets above the committed one. Without it workers would send them again."""
    produce(settings, range(5))
    [at] = [number for number, end in ends(settings, settings.topics.events).items() if end]
    group = {"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": settings.kafka.group_id, "log_level": 0}
    consumer = Consumer(group)
    topic = settings.topics.events
    consumer.commit(offsets=[TopicPartition(topic, at, 2, "a map")], asynchronous=False)
    try:
        for target, found in (("2", (2, "a map")), ("3", (3, ""))):
            assert shell("replay", "offsets", "--to", target, "--partition", str(at))[0] == 0
            [committed] = consumer.committed([TopicPartition(topic, at)], timeout=10)
            assert (committed.offset, committed.metadata or "") == found
    finally:
        consumer.close()
    [told] = shell("replay", "offsets", "--to", "latest", "--partition", str(at), "--dry-run", "--json")[1].splitlines()
    said = {"partition": at, "old": 3, "new": 5, "first": 0, "end": 5, "again": -2, "dryRun": True}
    assert json.loads(told) == said


def test_marks_outlive_dead_letters(settings: Settings) -> None:
    """Kafka deletes dead letters by whole segments, weeks late; the mark of one that is still there must be too."""
    plans = {plan.name: plan for plan in plan_topics(settings, 1)}
    kept = {name: int(plans[name].config["retention.ms"]) for name in (settings.topics.dlq, settings.topics.replays)}
    assert kept[settings.topics.replays] > 4 * kept[settings.topics.dlq]
