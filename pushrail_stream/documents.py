"""Destination documents: open, parse, load and store them as the settings say.

Kafka's and AWS's clients are imported where they are used: commands about a folder need neither.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.core.signals import Signal
from pushrail_stream.ports.documents import DocumentStore
from pushrail_stream.ports.secrets import MasterKey
from pushrail_stream.registry.catalog import Catalog, Parse
from pushrail_stream.registry.documents import Parsed, parse_document
from pushrail_stream.registry.folder import Folder, document_files
from pushrail_stream.registry.json_document import Problem
from pushrail_stream.registry.keyring import Keyring, leave_sealed, unseal_without_keyring
from pushrail_stream.registry.watcher import RegistryWatcher
from pushrail_stream.settings.model import Settings


def open_keyring(settings: Settings, environ: Mapping[str, str]) -> Keyring | None:
    """The keyring that the settings name, if any. Raises `UsageError` when it cannot be read."""
    secrets = settings.secrets
    endpoint_url = secrets.kms_endpoint_url
    if secrets.keyring is None:
        return None

    def kms_key(arn: str) -> MasterKey:
        from pushrail_stream.eventbridge.kms import KmsKey

        return KmsKey(arn, endpoint_url=endpoint_url)

    return Keyring.open(secrets.keyring, environ, kms_key)


def document_parser(
    settings: Settings, environ: Mapping[str, str], *, decrypt: bool = True
) -> Callable[[bytes], Parsed | tuple[Problem, ...]]:  # fmt: skip
    """A parser of documents. Raises `UsageError` when the settings name a keyring that cannot be read.

    ``decrypt``: whether to open sealed secrets. Without it, no keyring is needed and no request can be signed.
    """
    keyring = open_keyring(settings, environ) if decrypt else None
    unseal = leave_sealed if not decrypt else unseal_without_keyring if keyring is None else keyring.unseal
    delivery = settings.delivery
    return partial(
        parse_document,
        environ=environ,
        default_max_in_flight=delivery.max_in_flight,
        default_flush_ms=delivery.flush_ms,
        retry_bounds=delivery.retry_bounds,
        partner_namespace=settings.eventbridge.partner_namespace,
        unseal=unseal,
    )


def check_registry(settings: Settings, environ: Mapping[str, str]) -> None:
    """Raise `UsageError` when the keyring cannot be read, or the folder of documents cannot be listed."""
    open_keyring(settings, environ)
    if not settings.registry.topic:
        document_files(settings.registry.path)


def registry_parser(settings: Settings, environ: Mapping[str, str], *, decrypt: bool = True) -> Parse:
    """A parser of the documents in the registry, by name and content. Otherwise as `document_parser`."""
    parse_content = document_parser(settings, environ, decrypt=decrypt)

    def parse(name: str, content: bytes) -> Parsed | tuple[Problem, ...]:
        parsed = parse_content(content)
        if settings.registry.topic and isinstance(parsed, Parsed) and parsed.destination.id != name:
            return (Problem("id", f"is not the record's key ({name})"),)
        return parsed

    return parse


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[DocumentStore]:
    """The folder or topic of documents, for commands that change them."""
    if not settings.registry.topic:
        from pushrail_stream.registry.store import FolderStore

        yield FolderStore(settings.registry.path)
        return
    from pushrail_stream.kafka.documents import ASKED_OFTEN_MS, TopicDocuments, TopicStore
    from pushrail_stream.kafka.producer import KafkaPublisher
    from pushrail_stream.kafka.reach import reached_kafka
    from pushrail_stream.kafka.topics import check_topics, topics_named

    options, topic = await in_daemon_thread(reached_kafka, settings), settings.topics.destinations
    await in_daemon_thread(check_topics, options, topics_named(settings, topic))
    async with (
        TopicDocuments(options, topic, fetch_wait_ms=ASKED_OFTEN_MS) as documents,
        KafkaPublisher(options) as publisher,
    ):
        yield TopicStore(documents, publisher, topic)


@asynccontextmanager
async def open_registry(
    settings: Settings, environ: Mapping[str, str], *, decrypt: bool = True
) -> AsyncIterator[tuple[Catalog, RegistryWatcher]]:
    """An empty catalog of destinations, and the watcher that fills and updates it from the folder or topic."""
    catalog = Catalog(registry_parser(settings, environ, decrypt=decrypt))
    if settings.registry.topic:
        from pushrail_stream.kafka.documents import TopicDocuments
        from pushrail_stream.kafka.reach import reached_kafka

        kafka = await in_daemon_thread(reached_kafka, settings)
        async with TopicDocuments(kafka, settings.topics.destinations) as documents:
            yield catalog, RegistryWatcher(catalog, documents)
    else:
        yield catalog, RegistryWatcher(catalog, Folder(settings.registry.path))


async def load_registry(
    settings: Settings, environ: Mapping[str, str], *, decrypt: bool = True
) -> tuple[Catalog, list[Signal]]:
    """All destinations of this moment, and the signals about their documents. ``decrypt`` as for `document_parser`."""
    signals: list[Signal] = []
    async with open_registry(settings, environ, decrypt=decrypt) as (catalog, updater):
        await updater.load(signals.append)
    return catalog, signals
