"""Rotation: seals every sealed secret again with the primary key, one document after the other.

Each document is old or new, so it opens at any moment. An interrupted rotation goes on where it stopped: documents that
the primary key has sealed are skipped.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pushrail_stream.ports.documents import DocumentStore
from pushrail_stream.ports.secrets import KeyUnavailable
from pushrail_stream.registry.errors import Problem, Refusal
from pushrail_stream.registry.json_document import SECRET_FIELD, read_json, sealed_in, with_secret
from pushrail_stream.registry.keyring import Keyring, SealBroken
from pushrail_stream.registry.rules import SEALED
from pushrail_stream.registry.sealing import VERSION, Token


@dataclass
class Rotation:
    """The result of a rotation, and the keys that seal the documents now."""

    resealed: list[str] = field(default_factory=list)
    """Names of the documents sealed again; in a dry run, those that would be."""
    problems: list[Refusal] = field(default_factory=list)
    """Documents whose secret could not be sealed again, or may not have been, with the reasons."""
    left: list[Refusal] = field(default_factory=list)
    """Documents that cannot be parsed and hold nothing sealed by an old key."""
    in_use: Counter[str] = field(default_factory=Counter)
    """Number of documents that each key has sealed, by key id."""

    def unused(self, keyring: Keyring) -> list[str]:
        """Ids of the keys that no document needs; none while a document leaves that open."""
        if self.problems:
            return []
        return [fact.id for fact in keyring.facts if not fact.is_primary and not self.in_use[fact.id]]

    def refuse(self, name: str, problem: Problem, content: bytes | None, primary: str) -> None:
        """Note a document that stays as it was."""
        refused = Refusal(name, *problem)
        (self.left if content is not None and _is_free(content, primary) else self.problems).append(refused)


def _is_free(content: bytes, primary: str) -> bool:
    """Whether a document that cannot be parsed certainly holds no secret that an old key has sealed.

    An escape could spell anything, and so could another encoding or a compressed file.
    """
    if not isinstance(read_json(content), Problem) or b"\\" in content or not _is_plain(content):
        return False
    return content.count(SEALED.encode()) == content.count(f"{VERSION}:{primary}:".encode())


def _is_plain(content: bytes) -> bool:
    """Whether it is UTF-8. UTF-16 passes for that, but has zero bytes."""
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


async def survey(store: DocumentStore, primary: str) -> Rotation:
    """Find the keys that seal the documents, and change nothing."""
    survey = Rotation()
    for name, content, problem in await store.everything():
        key_id = Problem("", problem) if content is None else key_of(content, primary)
        if isinstance(key_id, Problem):
            survey.refuse(name, key_id, content, primary)
        elif key_id is not None:
            survey.in_use[key_id] += 1
    return survey


async def rotate(
    store: DocumentStore, keyring: Keyring, *, dry_run: bool, progress: Callable[[int, int], None]
) -> Rotation:  # fmt: skip
    """Seal again every secret of another key than the primary. ``progress`` gets the documents done and their total."""
    rotation = Rotation()
    documents = await store.everything()
    for number, (name, content, problem) in enumerate(documents, 1):
        found = Problem("", problem) if content is None else await _rotate_one(store, keyring, name, content, dry_run)
        if isinstance(found, Problem):
            rotation.refuse(name, found, content, keyring.primary)
            found = None if content is None else _key_id_or_none(content, keyring.primary)
        elif found is not None and found != keyring.primary:
            rotation.resealed.append(name)
            found = found if dry_run else keyring.primary
        if found is not None:
            rotation.in_use[found] += 1
        progress(number, len(documents))
    return rotation


async def _rotate_one(
    store: DocumentStore, keyring: Keyring, name: str, content: bytes, dry_run: bool  # noqa: FBT001
) -> str | Problem | None:  # fmt: skip
    """The key that had sealed the document (None: it has nothing sealed), or why it is left as it was."""
    while True:
        key_id = key_of(content, keyring.primary)
        if key_id is None or isinstance(key_id, Problem) or key_id == keyring.primary:
            return key_id
        changed = _reseal(content, keyring)
        if isinstance(changed, Problem) or dry_run:
            return changed if isinstance(changed, Problem) else key_id
        now = await store.read(name)
        if now == content:
            await store.write(name, changed)
            return key_id
        if now is None:
            return None
        content = now  # it was changed meanwhile: seal the new version


def key_of(content: bytes, primary: str) -> str | Problem | None:
    """Id of the key that has sealed a document's secret; None when it has none."""
    found = sealed_in(content)
    if isinstance(found, Problem):
        return found
    token = None if found is None else Token.parse(found.token)
    if found is not None and token is None:
        return Problem(found.place.field, "is not what `destinations seal` wrote: it was cut off or changed")
    key_id = None if token is None else token.key_id
    if _sealed_by_old_keys(content, primary) > (key_id not in {None, primary}):
        return Problem("", f"holds what an old key has sealed in another place than {SECRET_FIELD}")
    return key_id


def _sealed_by_old_keys(content: bytes, primary: str) -> int:
    """How many secrets of other keys than the primary stand anywhere in a document."""
    text = json.dumps(read_json(content), ensure_ascii=False)  # without escapes of ASCII characters
    return text.count(f"{VERSION}:") - text.count(f"{VERSION}:{primary}:")


def _key_id_or_none(content: bytes, primary: str) -> str | None:
    key_id = key_of(content, primary)
    return None if isinstance(key_id, Problem) else key_id


def _reseal(content: bytes, keyring: Keyring) -> bytes | Problem:
    found = sealed_in(content)
    if found is None or isinstance(found, Problem):
        return found or Problem("", "has nothing sealed")
    try:
        secret = keyring.unseal(found.token, found.place)
        return with_secret(content, lambda place: keyring.seal(secret, place))
    except (SealBroken, KeyUnavailable) as error:
        return Problem(found.place.field, str(error))
