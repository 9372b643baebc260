"""The JSON Schema of destination documents, for editors and CI.

It takes every document that the reader takes. Rules between two fields, such as ``region`` and ``busArn``, and between
documents are the reader's alone: `destinations validate` checks them.
"""

from __future__ import annotations

from typing import Any

from pushrail_stream.registry.documents import DocumentModel
from pushrail_stream.settings.schema import SchemaGenerator, json_schema


def document_schema() -> dict[str, Any]:
    """The schema of a destination document."""
    return json_schema(DocumentModel, "Destination of Pushrail Stream", SchemaGenerator)
