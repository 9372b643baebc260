"""Sets of offsets as text: read as they were written, and never from damaged text."""

from __future__ import annotations

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.offset_set import MAX_OFFSETS, decode_offsets, encode_offsets
from pushrail_stream.core.record import MAX_OFFSET


@given(st.sets(st.integers(0, 5_000)) | st.sets(st.integers(0, MAX_OFFSET), max_size=30))
def test_offsets_are_read_as_they_were_written(offsets: set[int]) -> None:
    text = encode_offsets(sorted(offsets))
    assert decode_offsets(text) == sorted(offsets)
    assert not set(text) & set(":,/")


def test_three_thousand_of_ten_thousand_offsets_are_short() -> None:
    assert len(encode_offsets(range(2**40, 2**40 + 9_000, 3))) < 100


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("5", id="no bitmap"),
        pytest.param("x." + base64.b85encode(zlib.compress(b"\1")).decode(), id="no offset"),
        pytest.param("5.\0", id="not base 85"),
        pytest.param("5." + base64.b85encode(zlib.compress(b"\1" * 40)).decode()[:-2], id="cut short"),
        pytest.param(f"{encode_offsets([9])}.{encode_offsets([5])}", id="not ascending"),
        pytest.param(
            "5." + base64.b85encode(zlib.compress(bytes([255]) * (MAX_OFFSETS // 8 + 1))).decode(), id="too long"
        ),
    ],
)
def test_damaged_text_is_refused(text: str) -> None:
    assert decode_offsets(text) is None
