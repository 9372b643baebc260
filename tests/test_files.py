"""Reading files that operators name: regular ones are read, and nothing else blocks the reader."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pushrail_stream import files
from pushrail_stream.files import Answering, read_regular_file
from tests.support.hung_mount import hung_mount, until_stuck


def test_a_regular_file_and_a_link_to_one_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_regular_file(tmp_path / "file") == read_regular_file(tmp_path / "link") == b"content"


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path / "pipe", "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "none", "No such file or directory"),
    ):
        with pytest.raises(OSError, match=reason) as refused:
            read_regular_file(path)
        assert refused.value.strerror == reason


def test_a_file_over_the_size_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 2**20)
    (tmp_path / "file").write_bytes(bytes(2**20))
    assert len(read_regular_file(tmp_path / "file")) == 2**20
    os.truncate(tmp_path / "file", 2**40)
    with pytest.raises(OSError, match="larger than 1 MiB"):
        read_regular_file(tmp_path / "file")


def test_a_file_of_false_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 1)
    status = Path("/proc/self/status")  # as every file of /proc
    assert (status.stat().st_size, status.is_file()) == (0, True)
    with pytest.raises(OSError, match="larger than"):
        read_regular_file(status)


def test_a_hung_file_blocks_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ANSWER_SECS", 0.1)
    folder = tmp_path / "mount"
    folder.mkdir()
    (folder / "file").write_bytes(b"content")
    read = Answering(lambda: read_regular_file(folder / "file"))
    with hung_mount(folder):
        for _ in range(5):
            with pytest.raises(OSError, match="does not answer"):
                read()
        until_stuck(1)
    stuck = read._stuck
    assert stuck is not None
    assert isinstance(stuck.exception(60), OSError)
    assert read() == b"content"


def test_the_calls_own_exception_is_raised() -> None:
    def refuse() -> None:
        raise TimeoutError("the server said so")

    with pytest.raises(TimeoutError, match="the server said so"):
        Answering(refuse)()
