"""The key of what a listing says of an image: another one for every word that changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.readers.listing import batch, batches_of, listing_keys
from schemas.records import ImageRecord

RECORD = ImageRecord("a.jpg", "/in/a.jpg", size=10, token="5", image_id=7)


def key(record: ImageRecord) -> int:
    (one,) = batches_of([record])
    (found,) = listing_keys(one.base, one.token, one.rows).tolist()
    return found


@pytest.mark.parametrize(
    "changed",
    [
        {"file_name": "b.jpg"},
        {"uri": "/elsewhere/a.jpg"},
        {"size": 11},
        {"token": "6"},
        {"offset": 512},
        {"row": 3},
        {"item": 1},
        {"plane": "z=2"},
    ],
)
def test_everything_that_a_listing_says_counts(changed: dict[str, object]) -> None:
    assert key(RECORD) == key(replace(RECORD, part="p", copy_ids=(1,))) != 0
    assert key(replace(RECORD, **changed)) not in (0, key(RECORD))


def test_a_listing_without_a_token_tells_nothing() -> None:
    assert key(replace(RECORD, token="")) == 0


def test_what_a_batch_says_of_all_its_images_counts() -> None:
    def keys(base: str, token: str) -> list[int]:
        one = batch(base, token, ["a", "b"], sizes=[1, 1], places=[512, 2048])
        return listing_keys(one.base, one.token, one.rows).tolist()

    same = keys("s.tar", "t")
    assert len({*same, *keys("r.tar", "t"), *keys("s.tar", "u")}) == 6
    assert keys("s.tar", "") == [0, 0]
