"""Ids fit where readers keep them; the words of a record are stable."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import (
    MAX_IMAGE_ID,
    SEGMENT_BITS,
    TASKS,
    ErrorCode,
    ImageRecord,
    Segment,
    Segmentation,
    Status,
    annotation_id,
)

IMAGE_IDS = st.integers(1, MAX_IMAGE_ID)
SEGMENT_IDS = st.integers(1, (1 << SEGMENT_BITS) - 1)


@given(IMAGE_IDS, SEGMENT_IDS)
def test_an_annotation_id_holds_both_ids_and_is_exact_as_a_double(image: int, segment: int) -> None:
    found = annotation_id(image, segment)
    assert (found >> SEGMENT_BITS, found & ((1 << SEGMENT_BITS) - 1)) == (image, segment)
    assert 1 <= found < 2**52
    assert int(float(found)) == found
    assert np.int64(found) == found


@given(st.tuples(IMAGE_IDS, SEGMENT_IDS), st.tuples(IMAGE_IDS, SEGMENT_IDS))
def test_annotation_ids_sort_like_image_then_segment(
    one: tuple[int, int], two: tuple[int, int]
) -> None:
    assert (one < two) == (annotation_id(*one) < annotation_id(*two))


@pytest.mark.parametrize(
    ("image", "segment", "key"),
    [
        (0, 1, "image_id"),
        (-1, 1, "image_id"),
        (MAX_IMAGE_ID + 1, 1, "image_id"),
        (1, 0, "segment_id"),
        (1, 1 << SEGMENT_BITS, "segment_id"),
    ],
)
def test_ids_out_of_range_are_refused_by_name(image: int, segment: int, key: str) -> None:
    with pytest.raises(ValueError, match=f"{key} must be in 1…"):
        annotation_id(image, segment)


def test_records_are_frozen_and_hashable() -> None:
    record = ImageRecord("a/b.png", "/in/a/b.png")
    assert record in {dataclasses.replace(record)}
    assert dataclasses.replace(record, image_id=3) != record
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.image_id = 3  # type: ignore[misc]
    assert hash(Segmentation(1, 1, (Segment(1, b"01", 1, (0, 0, 1, 1)),)))


def test_stable_words() -> None:
    """They stand in published files: a changed word is a new schema version."""
    assert [str(status) for status in Status] == ["ok", "empty", "failed", "skipped"]
    assert TASKS == ("semantic", "instance", "panoptic")
    assert {str(code) for code in ErrorCode} >= {
        *("read_error", "empty_file", "not_an_image", "truncated", "decode_error", "too_large"),
        *("unsupported", "model_error", "too_many_segments", "crashed"),
    }
