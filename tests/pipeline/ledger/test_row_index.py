"""What is known of images without reading them: to the letter of the listing, never more."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.ledger.parts import image_row, write_part
from pipeline.ledger.row_index import (
    RowIndex,
    RowState,
    Wanted,
    index_covers,
    index_uri,
    known_rows,
    read_index,
    read_parts,
    write_index,
)
from pipeline.storage.storage import Storage
from schemas.records import ErrorCode, Failure, ImageRecord

FAILURES = [
    None,
    Failure(ErrorCode.TRUNCATED, "m"),
    Failure(ErrorCode.READ_ERROR, "m"),
    Failure(ErrorCode.TOO_LARGE, "m"),
]


def label_of(image_id: int) -> str:
    """A fingerprint."""
    return f"{image_id:016x}{0:016x}"


def part(folder: Path, ids: list[int], *failures: Failure | None) -> str:
    """Writes a part of images with these ids; its name."""
    rows = [
        image_row(
            ImageRecord(f"{one}.jpg", "", image_id=one),
            failure=failure,
            sha256="00",
            fingerprint=label_of(one),
        )
        for one, failure in zip(ids, failures or [None] * len(ids), strict=True)
    ]
    shard = f"{ids[0]:08x}"
    return write_part(
        Storage(), str(folder), shard=shard, run="r", images=rows, annotations=[]
    ).name


def keys(ids: list[int], *, changed: tuple[int, ...] = ()) -> np.ndarray:
    """What a listing says of these images."""
    return np.array([one * 1000 + (one in changed) for one in ids], np.uint64)


def wanted(ids: list[int], *, once_more: bool = False) -> Wanted:
    return Wanted(np.array(ids, np.int64), keys(ids), once_more=once_more)


def index(folder: Path, shards: dict[str, list[int]], *, once_more: bool = False) -> RowIndex:
    parts = {name: partial(wanted, own, once_more=once_more) for name, own in shards.items()}
    return RowIndex(read_parts(Storage(), str(folder), parts), "about")


def standing(known: RowIndex, ids: list[int], *, changed: tuple[int, ...] = ()) -> list[str]:
    return known.standing_parts(np.array(ids, np.int64), keys(ids, changed=changed))


def test_a_row_stands_only_where_the_listing_says_the_same(tmp_path: Path) -> None:
    one, two = [3, 1, 2], [20, 21]
    first, second = part(tmp_path, one), part(tmp_path, two)
    known = index(tmp_path, {first: one, second: two})
    assert standing(known, [*two, *one]) == [second] * 2 + [first] * 3
    assert standing(known, [1, 2, 99], changed=(1,)) == ["", first, ""]
    assert standing(RowIndex(), one) == [""] * 3
    nothing = np.zeros(3, np.uint64)  # a listing without tokens tells nothing
    assert known.standing_parts(np.array(one), nothing) == [""] * 3


def test_what_failed_is_read_again(tmp_path: Path) -> None:
    own = [1, 2, 3, 4]
    name = part(tmp_path, own, *FAILURES)
    known = index(tmp_path, {name: own})
    assert standing(known, own) == [name, "", "", ""]
    assert known.labels().find(label_of(2)) == name  # by its bytes
    assert len(known.labels().keys) == 3  # a picture that could not be fetched has none
    _, states = known.find(np.array(own), keys(own))
    assert states.tolist() == [
        *(RowState.LABELLED, RowState.FAILED),
        *(RowState.FAILED_FOR_NOW, RowState.FAILED_FOR_NOW),
    ]
    _, states = index(tmp_path, {name: own}, once_more=True).find(np.array(own), keys(own))
    assert states[1] == RowState.DOUBTFUL


def test_a_shard_whose_listing_is_not_known_is_read_again(tmp_path: Path) -> None:
    own = [1, 2]
    name = part(tmp_path, own)
    known = RowIndex(read_parts(Storage(), str(tmp_path), {name: Wanted}))
    assert standing(known, own) == ["", ""]
    assert len(known.labels().keys) == 2


def test_the_file_gives_back_what_was_written(tmp_path: Path) -> None:
    storage, folder = Storage(), str(tmp_path)
    one, two = [1, 2, 3], [20, 21]
    first, second = part(tmp_path, one), part(tmp_path, two)
    known = index(tmp_path, {second: two, first: one})
    write_index(storage, folder, "run", known, 5)
    again = read_index(storage, folder, "run")
    assert again is not None
    assert (list(again.parts), again.about) == ([second, first], "about")
    assert standing(again, [*one, *two]) == standing(known, [*one, *two])
    np.testing.assert_array_equal(again.labels().keys, known.labels().keys)
    assert index_covers(storage, folder, "run", [second, first], 5, "about")
    assert not index_covers(storage, folder, "run", [first, second], 5, "about")
    assert not index_covers(storage, folder, "run", [second, first], 4, "about")
    assert not index_covers(storage, folder, "run", [second, first], 5, "other words")
    assert not index_covers(storage, folder, "other", [second, first], 5, "about")
    write_index(storage, folder, "none", RowIndex())
    empty = read_index(storage, folder, "none")
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
    one, two = [1, 2, 3], [20, 21]
    first = part(tmp_path, one)
    write_index(Storage(), str(tmp_path), "run", index(tmp_path, {first: one}))
    second = part(tmp_path, two)
    known = known_rows(Storage(), str(tmp_path), "run")
    assert standing(known, [*one, *two]) == [first] * 3 + [""] * 2
    assert known.labels().find(label_of(20)) == second
