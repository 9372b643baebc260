"""The first settings file is small, valid, and never written over another one unasked."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from pushrail_stream.errors import UsageError
from pushrail_stream.operations.first_settings import write_first_settings
from pushrail_stream.settings.schema import settings_schema
from pushrail_stream.settings.source import load_settings


def test_the_file_is_valid_and_says_where_its_schema_is(tmp_path: Path) -> None:
    path = tmp_path / "new" / "pushrail.yaml"
    write_first_settings(path, overwrite=False)
    assert load_settings(path).kafka.bootstrap_servers == "localhost:9092"
    assert Draft202012Validator(settings_schema()).is_valid(yaml.safe_load(path.read_text()))
    assert path.read_text().startswith("# yaml-language-server: $schema=pushrail.schema.json\n")
    assert (path.parent / "destinations").is_dir()


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "pushrail.yaml"
    path.write_text("vendor: mine\n")
    with pytest.raises(UsageError, match="is there already; --force writes a new one in its place"):
        write_first_settings(path, overwrite=False)
    assert path.read_text() == "vendor: mine\n"
    write_first_settings(path, overwrite=True)
    assert "vendor: mine" not in path.read_text()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/destinations: cannot be made: not a directory"):
        write_first_settings(tmp_path / "file" / "pushrail.yaml", overwrite=False)


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written: file name too long"):
        write_first_settings(tmp_path / ("a" * 300), overwrite=False)
