"""The destinations there are: documents read, checked and looked up by customer.

The room's rule: a document is either a valid `Destination` or a refusal that names file and field; one bad document
never stops the others; no value of a document is quoted unless it is known to be harmless, and a secret never is.
"""

from __future__ import annotations

from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.registry.directory import FileDirectory
from pushrail_stream.registry.documents import Parsed, parse_document, to_document
from pushrail_stream.registry.findings import Caveat, Problem, Refusal, RegistryError
from pushrail_stream.registry.folder import Folder
from pushrail_stream.registry.keyring import Keyring, left_sealed, no_keyring
from pushrail_stream.registry.live import LiveRegistry
from pushrail_stream.registry.onboarding import ROLE, Onboarding, new_external_id
from pushrail_stream.registry.store import FolderStore

__all__ = [
    "ROLE",
    "Catalog",
    "Caveat",
    "FileDirectory",
    "Folder",
    "FolderStore",
    "Keyring",
    "LiveRegistry",
    "Onboarding",
    "Parsed",
    "Problem",
    "Refusal",
    "RegistryError",
    "left_sealed",
    "new_external_id",
    "no_keyring",
    "parse_document",
    "to_document",
]
