"""What is known of images without reading them: to the letter of the listing, never more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.ledger.parts import image_row, write_part
from pipeline.ledger.row_index import (
    RowIndex,
    index_uri,
    known_rows,
    listing_key,
    read_index,
    read_parts,
    write_index,
)
from pipeline.storage.storage import Storage
from schemas.records import ErrorCode, Failure, ImageRecord

RECORD = ImageRecord("a.jpg", "/in/a.jpg", size=10, token="5", image_id=7)
FAILURES = [None, Failure(ErrorCode.TRUNCATED, "m"), Failure(ErrorCode.READ_ERROR, "m")]


def label_of(image_id: int) -> str:
    """A fingerprint."""
    return f"{image_id:016x}{0:016x}"


def records(count: int, *, first: int = 1) -> list[ImageRecord]:
    return [
        ImageRecord(f"{n}.jpg", f"/in/{n}.jpg", size=n, token="t", image_id=n)
        for n in range(first, first + count)
    ]


def part(folder: Path, listed: list[ImageRecord], *failures: Failure | None) -> str:
    rows = [
        image_row(
            record, failure=failure, sha256="00", fingerprint=f"{record.image_id:016x}{0:016x}"
        )
        for record, failure in zip(listed, failures or [None] * len(listed), strict=True)
    ]
    shard = f"{listed[0].image_id:08x}"
    return write_part(
        Storage(), str(folder), shard=shard, run="r", images=rows, annotations=[]
    ).name


def index(folder: Path, shards: dict[str, list[ImageRecord]]) -> RowIndex:
    wanted = {name: lambda own=own: own for name, own in shards.items()}
    return RowIndex(read_parts(Storage(), str(folder), wanted))


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
    assert listing_key(RECORD) == listing_key(replace(RECORD, part="p", copy_ids=(1,))) != 0
    assert listing_key(replace(RECORD, **changed)) not in (0, listing_key(RECORD))


def test_a_listing_without_a_token_tells_nothing() -> None:
    assert listing_key(replace(RECORD, token="")) == 0


def test_a_row_stands_only_where_the_listing_says_the_same(tmp_path: Path) -> None:
    one, two = records(3), records(2, first=20)
    first, second = part(tmp_path, one), part(tmp_path, two)
    known = index(tmp_path, {first: one, second: two})
    assert known.standing_parts([*two, *one]) == [second] * 2 + [first] * 3
    touched = [replace(one[0], token="u"), one[1], *records(1, first=99)]
    assert known.standing_parts(touched) == ["", first, ""]
    assert RowIndex().standing_parts(one) == [""] * 3


def test_what_failed_is_read_again(tmp_path: Path) -> None:
    own = records(3)
    name = part(tmp_path, own, *FAILURES)
    known = index(tmp_path, {name: own})
    assert known.standing_parts(own) == [name, "", ""]
    assert known.labels().find(label_of(2)) == name  # by its bytes
    assert len(known.labels().keys) == 2  # a picture that could not be fetched has none


def test_a_shard_whose_listing_is_not_known_is_read_again(tmp_path: Path) -> None:
    own = records(2)
    name = part(tmp_path, own)
    known = RowIndex(read_parts(Storage(), str(tmp_path), {name: tuple}))
    assert known.standing_parts(own) == ["", ""]
    assert len(known.labels().keys) == 2


def test_the_file_gives_back_what_was_written(tmp_path: Path) -> None:
    one, two = records(3), records(2, first=20)
    first, second = part(tmp_path, one), part(tmp_path, two)
    known = index(tmp_path, {second: two, first: one})
    write_index(Storage(), str(tmp_path), "run", known)
    again = read_index(Storage(), str(tmp_path), "run")
    assert again is not None
    assert list(again.parts) == [second, first]
    assert again.standing_parts([*one, *two]) == known.standing_parts([*one, *two])
    np.testing.assert_array_equal(again.labels().keys, known.labels().keys)
    write_index(Storage(), str(tmp_path), "none", RowIndex())
    empty = read_index(Storage(), str(tmp_path), "none")
    assert empty is not None
    assert len(empty) == 0


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no Parquet at all"])
def test_a_damaged_index_is_none(tmp_path: Path, data: bytes) -> None:
    storage = Storage()
    assert read_index(storage, str(tmp_path), "run") is None
    storage.write(index_uri(str(tmp_path), "run"), data)
    assert read_index(storage, str(tmp_path), "run") is None
    assert len(known_rows(storage, str(tmp_path), "run")) == 0


def test_parts_that_a_killed_run_left_are_known_by_their_bytes(tmp_path: Path) -> None:
    one, two = records(3), records(2, first=20)
    first = part(tmp_path, one)
    write_index(Storage(), str(tmp_path), "run", index(tmp_path, {first: one}))
    second = part(tmp_path, two)
    known = known_rows(Storage(), str(tmp_path), "run")
    assert known.standing_parts([*one, *two]) == [first] * 3 + [""] * 2
    assert known.labels().find(label_of(20)) == second
