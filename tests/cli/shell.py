"""The command line, run in this process."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pushrail_stream.cli import execute

Run = tuple[int, str, str]
"""Exit code, stdout, stderr."""


class Shell:
    """Runs commands; whatever they print must hold none of the secrets."""

    def __init__(self, capsys: pytest.CaptureFixture[str], secrets: Sequence[str]) -> None:
        self._capsys = capsys
        self._secrets = secrets

    def __call__(self, *arguments: str) -> Run:
        code = execute(arguments)
        out, err = self._capsys.readouterr()
        assert not any(secret in out + err for secret in self._secrets)
        return code, out, err
