"""The destinations there are: documents read, checked and looked up by customer.

The room's rule: a document is either a valid `Destination` or a refusal that names file and field; one bad document
never stops the others; no value of a document is quoted unless it is known to be harmless, and a secret never is.
"""

from __future__ import annotations

from pushrail_stream.errors import UsageError
from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.registry.directory import DestinationIndex
from pushrail_stream.registry.documents import Parsed, parse_document, to_document
from pushrail_stream.registry.errors import Caveat, Problem, Refusal
from pushrail_stream.registry.folder import Folder
from pushrail_stream.registry.keyring import Keyring, leave_sealed, unseal_without_keyring
from pushrail_stream.registry.store import FolderStore
from pushrail_stream.registry.watcher import RegistryWatcher

__all__ = [
    "Catalog",
    "Caveat",
    "DestinationIndex",
    "Folder",
    "FolderStore",
    "Keyring",
    "Parsed",
    "Problem",
    "Refusal",
    "RegistryWatcher",
    "UsageError",
    "leave_sealed",
    "parse_document",
    "to_document",
    "unseal_without_keyring",
]
