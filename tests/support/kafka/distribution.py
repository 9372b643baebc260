"""Apache Kafka's jars and the Java to run them: found, or fetched once into a cache folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.support.cache import cache_root

KAFKA_VERSION: Final = "4.3.1"  # as in pom.xml; a test compares them
MIN_JAVA: Final = 17  # Kafka 4's own minimum for brokers

_POM: Final = Path(__file__).with_name("pom.xml")
_JAVA_ANSWER_SECS: Final = 20.0
_DOWNLOAD_SECS: Final = 900.0


class DistributionMissingError(Exception):
    """Kafka cannot be had on this machine; the message says what to install."""


def cache_dir() -> Path:
    """Return where the jars are, or will be, kept: one folder per version."""
    return cache_root() / f"kafka-{KAFKA_VERSION}"


def find_java() -> str:
    """Return the path of a Java of at least MIN_JAVA, ``$JAVA_HOME`` first; raises DistributionMissingError."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin" if home else None) or shutil.which("java")
    if java is None:
        raise DistributionMissingError("no java was found")
    try:
        # The version goes to standard error. macOS has a java that only says where to buy one: exit code 1.
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=_JAVA_ANSWER_SECS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise DistributionMissingError(f"{java} does not run: {error}") from error
    version = re.search(r'version "(\d+)', said.stderr)
    if version is None or int(version.group(1)) < MIN_JAVA:
        raise DistributionMissingError(f"{java} is older than Java {MIN_JAVA}")
    return java


def missing() -> str | None:
    """Return why a local Kafka cannot be had here, or None. Quick: nothing is downloaded."""
    try:
        find_java()
    except DistributionMissingError as reason:
        return str(reason)
    if not cache_dir().is_dir() and shutil.which("mvn") is None:
        return "no mvn (Maven) was found to fetch Kafka with"
    return None


def ensure_jars() -> Path:
    """Return the folder of Kafka's jars; the first time, Maven fetches them (45 MB), later no network is used.

    The folder appears by a rename, so it is complete whenever it exists: an interrupted download is never used, and of
    two runs that download at once the later one throws its copy away. Raises DistributionMissingError.
    """
    target = cache_dir()
    if target.is_dir():
        return target
    maven = shutil.which("mvn")
    if maven is None:
        raise DistributionMissingError("no mvn (Maven) was found to fetch Kafka with")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}-", suffix=".part", dir=target.parent))
    try:
        _download(maven, unfinished)
        if not target.is_dir():
            unfinished.rename(target)
    except OSError as error:
        if not target.is_dir():  # otherwise another run was quicker by a hair
            raise DistributionMissingError(f"the cache folder {target} cannot be written: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _download(maven: str, into: Path) -> None:
    arguments = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={into}"]
    try:
        done = subprocess.run(
            [maven, "-q", "-B", "-f", str(_POM), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_SECS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DistributionMissingError(f"Maven did not fetch Kafka within {_DOWNLOAD_SECS:.0f} s") from error
    if done.returncode != 0:
        raise DistributionMissingError(f"Maven could not fetch Kafka: {(done.stdout + done.stderr)[-2000:]}")
