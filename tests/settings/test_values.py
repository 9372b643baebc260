"""Partitions: the same ones as botocore's, and each region in its own."""

from __future__ import annotations

import re

import pytest
from botocore.session import get_session

from pushrail_stream.settings.values import PARTITION, partition_of


def test_botocores_partitions_are_known() -> None:
    for name in get_session().get_available_partitions():
        assert re.fullmatch(PARTITION, name)
    for name in ("aws-mars", "AWS", "aws_cn", ""):
        assert not re.fullmatch(PARTITION, name)


def test_every_region_of_botocore_is_in_its_partition() -> None:
    session = get_session()
    for name in session.get_available_partitions():
        for region in session.get_available_regions("events", name):
            assert partition_of(region) == name


@pytest.mark.parametrize("region", ["eu-nowhere-1", "mars-north-1"])
def test_an_unknown_region_has_the_default(region: str) -> None:
    assert partition_of(region) == "aws"
