"""``make bench-registry``: the time to load many destinations, and to apply one change among them.

A tenth of them have an access key sealed by a local key, the others a role. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psutil

from pushrail_stream.core.destination import Secret
from pushrail_stream.documents import document_parser, load_registry
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.registry.folder import Folder
from pushrail_stream.registry.keyring import Keyring
from pushrail_stream.registry.sealing import Place
from pushrail_stream.settings.model import Settings
from tests.bench.__main__ import say
from tests.support.sealing_keys import no_kms, ring

_SEALED: Final = 10
"""One destination in this number has an access key."""
_ROUNDS: Final = 5


def document(number: int, keyring: Keyring) -> dict[str, Any]:
    """The document of one customer of many."""
    account = f"{number:012}"
    auth: dict[str, Any] = {
        "mode": "ASSUME_ROLE",
        "roleArn": f"arn:aws:iam::{account}:role/PushrailEventBridgeWriter",
        "externalId": f"acme-{number:032}",
    }
    if number % _SEALED == 0:
        sealed = keyring.seal(Secret(f"secret-{number}"), Place("acme", f"dst_{number}", "auth.secretAccessKey"))
        auth = {"mode": "ACCESS_KEY", "accessKeyId": f"AKIA{number:016}", "secretAccessKey": sealed}
    return {
        "id": f"dst_{number}",
        "vendor": "acme",
        "customerExternalId": f"acct_{number}",
        "type": "EVENTBRIDGE",
        "name": f"EventBridge bus of acct_{number}",
        "busArn": f"arn:aws:events:us-east-1:{account}:event-bus/pushrail-events",
        "region": "us-east-1",
        "sourceNamespace": "pushrail.acme",
        "auth": auth,
        "enabled": True,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.registry", description=__doc__)
    parser.add_argument("--documents", type=int, default=10_000)
    count: int = parser.parse_args().documents
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "keyring.json").write_bytes(ring("bench"))
        keyring = Keyring.open(str(home / "keyring.json"), {}, no_kms)
        (home / "documents").mkdir()
        for number in range(count):
            (home / "documents" / f"{number}.json").write_text(json.dumps(document(number, keyring)))
        settings = Settings.model_validate(
            {"registry": {"path": str(home / "documents")}, "secrets": {"keyring": str(home / "keyring.json")}}
        )
        print(json.dumps(measure(settings, count, keyring)))


def measure(settings: Settings, count: int, keyring: Keyring) -> dict[str, Any]:
    """Load everything as a worker does, then one change at a time."""
    before = psutil.Process().memory_info().rss
    began, cpu = time.perf_counter(), time.process_time()
    catalog, _ = asyncio.run(load_registry(settings, {}))
    load_secs, load_cpu_secs = time.perf_counter() - began, time.process_time() - cpu
    if len(catalog) != count:
        sys.exit(f"{len(catalog)} of {count} documents were loaded")
    rss_mib = (psutil.Process().memory_info().rss - before) / 2**20
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    say(f"{count} documents in {load_secs:.2f} s ({load_cpu_secs:.2f} s of CPU), {rss_mib:.0f} MiB")
    pooled, plain = compare_parsing(settings)
    say(f"parsing alone: {plain:.2f} s of CPU in one thread, {pooled:.2f} s in the catalog's")
    one_ms = change_one(catalog, settings, keyring)
    say(f"one change among them: {one_ms:.1f} ms")
    look_ms = look_again(settings)
    say(f"a look at the folder that finds nothing changed: {look_ms:.1f} ms of CPU")
    return {
        "documents": count,
        "load_secs": round(load_secs, 3),
        "load_cpu_secs": round(load_cpu_secs, 3),
        "rss_mib": round(rss_mib, 1),
        "peak_rss_mib": round(peak_mib, 1),
        "parse_cpu_secs": round(plain, 3),
        "parse_cpu_secs_in_threads": round(pooled, 3),
        "change_cpu_ms": round(one_ms, 2),
        "look_cpu_ms": round(look_ms, 2),
    }


def compare_parsing(settings: Settings) -> tuple[float, float]:
    """CPU seconds of reading every document in the catalog's threads and in one; the least of several rounds."""
    parse = document_parser(settings, {})
    changes = asyncio.run(Folder(settings.registry.path).changes())
    pooled, plain = [], []
    for _ in range(_ROUNDS):
        cpu = time.process_time()
        for change in changes:
            parse(change.content or b"")
        plain.append(time.process_time() - cpu)
        cpu = time.process_time()
        list(Catalog(lambda _, content: parse(content)).read(changes))
        pooled.append(time.process_time() - cpu)
    return min(pooled), min(plain)


def change_one(catalog: Catalog, settings: Settings, keyring: Keyring) -> float:
    """CPU milliseconds of taking one changed document in; the median of several."""
    spent = []
    for number in range(1, 2 * _ROUNDS):
        changed = document(number, keyring) | {"name": f"changed {number}"}
        name = str(settings.registry.path / f"{number}.json")
        cpu = time.process_time()
        put = catalog.apply([DocumentChange(name, json.dumps(changed).encode())]).put
        spent.append((time.process_time() - cpu) * 1000)
        if put != (f"dst_{number}",):
            sys.exit(f"the change was not taken in: {put}")
    return sorted(spent)[len(spent) // 2]


def look_again(settings: Settings) -> float:
    """CPU milliseconds of one look at a folder in which nothing has changed."""
    folder = Folder(settings.registry.path)
    asyncio.run(folder.look())
    asyncio.run(folder.look())  # reads a file again that was just written
    cpu = time.process_time()
    if asyncio.run(folder.look()):
        sys.exit("something has changed")
    return (time.process_time() - cpu) * 1000


if __name__ == "__main__":
    main()
