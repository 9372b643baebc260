"""Problems of documents, as one line."""

from __future__ import annotations

import pytest

from pushrail_stream.registry.errors import Caveat, Refusal


@pytest.mark.parametrize("kind", [Refusal, Caveat])
def test_a_line_names_file_and_field(kind: type[Refusal | Caveat]) -> None:
    assert str(kind("acme.json", "auth.roleArn", "is required")) == "acme.json: auth.roleArn: is required"
    assert str(kind("acme.json", "", "is not UTF-8 text")) == "acme.json: is not UTF-8 text"
