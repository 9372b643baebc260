"""The script of the whole check, with fakes of the system's package tools and of the checks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "run"
OURS = "#!/bin/sh\nexit 101\n"


def run(home: Path, *, apt_works: bool) -> subprocess.CompletedProcess[str]:
    """The script on a machine without promtool. Its calls are in ``home/called``."""
    (home / "repo" / ".ci").mkdir(parents=True)
    script = home / "repo" / ".ci" / "run"
    script.write_text(SCRIPT.read_text().replace("/usr/sbin/policy-rc.d", str(home / "policy-rc.d")))
    (home / "bin").mkdir()
    for name in ("bash", "dirname", "cat", "chmod", "rm", "printf"):
        (home / "bin" / name).symlink_to(shutil.which(name) or "")
    seen = f'printf "%s %s; " {{name}} "$1" >> {home}/called; cat {home}/policy-rc.d >> {home}/policies 2> /dev/null'
    for name, end in (("apt-get", "true" if apt_works else "false"), ("make", "true")):
        (home / "bin" / name).write_text(f"#!/bin/sh\n{seen.format(name=name)}\n{end}\n")
        (home / "bin" / name).chmod(0o755)
    bash = home / "bin" / "bash"
    there = os.environ | {"PATH": str(home / "bin")}
    return subprocess.run([bash, script], env=there, capture_output=True, text=True, check=False)


def test_an_installation_starts_no_service(tmp_path: Path) -> None:
    done = run(tmp_path, apt_works=True)
    assert done.returncode == 0, done.stderr
    called = (tmp_path / "called").read_text()
    assert called == "apt-get update; apt-get install; make check; make test; "
    assert (tmp_path / "policies").read_text() == 2 * OURS, "while apt-get works, and not after"
    assert not (tmp_path / "policy-rc.d").exists()


def test_a_failed_installation_fails_the_run(tmp_path: Path) -> None:
    assert run(tmp_path, apt_works=False).returncode != 0
    assert (tmp_path / "called").read_text() == "apt-get update; "
    assert not (tmp_path / "policy-rc.d").exists()


@pytest.mark.parametrize("apt_works", [True, False])
def test_an_existing_policy_stays(tmp_path: Path, *, apt_works: bool) -> None:
    (tmp_path / "policy-rc.d").write_text("theirs")
    run(tmp_path, apt_works=apt_works)
    assert (tmp_path / "policy-rc.d").read_text() == "theirs"
