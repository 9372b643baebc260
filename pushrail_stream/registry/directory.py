"""The directory of destinations, read from files: looked up by customer, never searched."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self, final

from pushrail_stream.core.destination import AssumeRole, Destination
from pushrail_stream.registry.documents import Parsed
from pushrail_stream.registry.findings import Caveat, Problem, Refusal, RegistryError


class _Entry(NamedTuple):
    file: str
    destination: Destination


@final
class FileDirectory:
    """Every destination of a directory of JSON files, as of `load`. Implements `ports.Directory`; never changes."""

    __slots__ = ("_by_customer", "_by_id", "_files", "caveats")

    def __init__(self, entries: Iterable[tuple[str, Destination]] = (), caveats: Iterable[Caveat] = ()) -> None:
        ordered = sorted(entries, key=lambda entry: entry[1].id)
        self._files = {destination.id: file for file, destination in ordered}
        self._by_id = {destination.id: destination for _, destination in ordered}
        self.caveats = tuple(caveats)
        """What the operator should know about documents that are in use."""
        by_customer: dict[tuple[str, str], tuple[Destination, ...]] = {}
        for _, destination in ordered:
            customer = (destination.vendor, destination.customer_external_id)
            by_customer[customer] = (*by_customer.get(customer, ()), destination)
        self._by_customer = by_customer

    @classmethod
    def load(
        cls, path: Path, parse: Callable[[bytes], Parsed | tuple[Problem, ...]]
    ) -> tuple[Self, list[Refusal]]:  # fmt: skip
        """The destinations of all ``*.json`` files in a directory, and the documents that were refused.

        Raises `RegistryError` when there is no such directory or it cannot be listed.
        """
        return cls.read(document_files(path), parse)

    @classmethod
    def read(
        cls, files: Iterable[Path], parse: Callable[[bytes], Parsed | tuple[Problem, ...]]
    ) -> tuple[Self, list[Refusal]]:  # fmt: skip
        """The same for these files, in this order: of two that clash the earlier one counts."""
        entries: list[_Entry] = []
        refusals: list[Refusal] = []
        caveats: list[Caveat] = []
        for file in dict.fromkeys(files):
            name = str(file)
            content = _content(file)
            if isinstance(content, Refusal):
                refusals.append(content)
                continue
            parsed = parse(content)
            if isinstance(parsed, Parsed) and parsed.locked is not None:
                parsed = (parsed.locked,)
            if isinstance(parsed, Parsed):
                entries.append(_Entry(name, parsed.destination))
                caveats += [Caveat(name, *problem) for problem in parsed.caveats]
            else:
                refusals += [Refusal(name, *problem) for problem in parsed]
        clashes = find_clashes(entries)
        clashing = {refusal.file for refusal in clashes}
        accepted = [entry for entry in entries if entry.file not in clashing]
        used = {entry.file for entry in accepted}
        return cls(accepted, [caveat for caveat in caveats if caveat.file in used]), [*refusals, *clashes]

    def route(self, vendor: str, customer_external_id: str) -> tuple[Destination, ...]:
        """All destinations of a customer, enabled or not, ordered by id."""
        return self._by_customer.get((vendor, customer_external_id), ())

    def get(self, destination_id: str) -> Destination | None:
        """The destination of this id; None when there is none."""
        return self._by_id.get(destination_id)

    def file_of(self, destination_id: str) -> str | None:
        """Where the document of this destination was found."""
        return self._files.get(destination_id)

    def __iter__(self) -> Iterator[Destination]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)


def document_files(path: Path) -> list[Path]:
    """The documents of a directory, sorted by name: ``*.json``, without hidden files (editors' temporary ones are)."""
    return sorted(Path(entry.path) for entry in document_entries(path))


def document_entries(path: Path) -> Iterator[os.DirEntry[str]]:
    """The same, in any order and cheaply: ten thousand are looked at every two seconds."""
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(".json") and not name.startswith((".", "#", "~")) and not entry.is_dir():
                    yield entry
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RegistryError(f"{path}: no directory of destination documents: {reason} (registry.path)") from None


def _content(file: Path) -> bytes | Refusal:
    try:
        return file.read_bytes()
    except OSError as error:
        return Refusal(str(file), "", f"cannot be read: {(error.strerror or str(error)).lower()}")


def find_clashes(documents: Iterable[tuple[str, Destination]]) -> list[Refusal]:
    """Documents that are right each by itself and wrong together (contract 3.5)."""
    entries = [_Entry(*document) for document in documents]
    refusals = _same_id(entries)
    refused = {refusal.file for refusal in refusals}
    refusals += _same_role([entry for entry in entries if entry.file not in refused])
    refused = {refusal.file for refusal in refusals}
    return refusals + _same_external_id([entry for entry in entries if entry.file not in refused])


def _same_id(entries: list[_Entry]) -> list[Refusal]:
    first: dict[str, str] = {}
    refusals = []
    for file, destination in entries:
        holder = first.setdefault(destination.id, file)
        if holder != file:
            refusals.append(Refusal(file, "id", f"{destination.id} is already the id of {holder}"))
    return refusals


def _same_role(entries: list[_Entry]) -> list[Refusal]:
    """A role named by several customers, each with an external ID of their own: somebody names another's role."""
    claims: dict[str, list[tuple[_Entry, AssumeRole]]] = {}
    for entry in entries:
        if isinstance(entry.destination.auth, AssumeRole):
            claims.setdefault(entry.destination.auth.role_arn, []).append((entry, entry.destination.auth))
    refusals = []
    for claimants in claims.values():
        customers = {_customer(entry.destination) for entry, _ in claimants}
        if len(customers) > 1 and len({auth.external_id for _, auth in claimants}) > 1:
            for entry, _ in claimants:
                others = ", ".join(
                    other.file for other, _ in claimants
                    if _customer(other.destination) != _customer(entry.destination)
                )  # fmt: skip
                problem = f"another customer names the same role with another external ID ({others}); "
                refusals.append(
                    Refusal(entry.file, "auth.roleArn", problem + "whose it is is unknown, so none is used")
                )
    return refusals


def _same_external_id(entries: list[_Entry]) -> list[Refusal]:
    """An external ID binds a role to one customer of ours; shared, it binds nothing (the confused deputy)."""
    first: dict[str, _Entry] = {}
    refusals = []
    for entry in entries:
        if isinstance(entry.destination.auth, AssumeRole):
            holder = first.setdefault(entry.destination.auth.external_id, entry)
            if _customer(holder.destination) != _customer(entry.destination):
                problem = f"is already another customer's ({holder.file}): every customer needs one of their own"
                refusals.append(Refusal(entry.file, "auth.externalId", problem))
    return refusals


def _customer(destination: Destination) -> tuple[str, str]:
    return destination.vendor, destination.customer_external_id
