"""Which labels are there already: exact, complete, and never a crash over a damaged part."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger import reuse
from pipeline.ledger.parts import image_row, write_part
from pipeline.ledger.reuse import (
    EMPTY_INDEX,
    ReuseIndex,
    StandingLabels,
    image_fingerprint,
)
from pipeline.ledger.row_index import RowIndex, Wanted, read_parts
from pipeline.storage.storage import Storage
from schemas.records import ErrorCode, Failure, ImageRecord

KEYS = st.text("0123456789abcdef", min_size=32, max_size=32)


def fingerprint(text: str) -> str:
    return image_fingerprint(text, "run")


def build_index(storage: Storage, dataset: str, names: Sequence[str]) -> ReuseIndex:
    return RowIndex(read_parts(storage, dataset, dict.fromkeys(sorted(names), Wanted))).labels()


def part(folder: Path, shard: str, keys: Sequence[str], *, code: ErrorCode | None = None) -> str:
    """A part of images with these fingerprints and one annotation each; its name."""
    images, segments = [], []
    for number, key in enumerate(keys, start=1):
        failure = Failure(code, "m") if code else None
        record = ImageRecord(f"{shard}/{number}", "", image_id=number)
        images.append(image_row(record, failure=failure, sha256=key, fingerprint=key))
        segments.append(_segment(number, category=shard))
    written = write_part(
        Storage(), str(folder), shard=shard, run="run", images=images, annotations=segments
    )
    return written.name


def _segment(image_id: int, *, category: str) -> dict[str, Any]:
    return {
        "annotation_id": image_id << 21 | 1,
        "image_id": image_id,
        "segment_id": 1,
        "category_id": 1,
        "category": category,
        "isthing": True,
        "iscrowd": 0,
        "area": 1,
        "bbox_xywh": [0, 0, 1, 1],
        "rle": {"size": [1, 1], "counts": "01"},
        "score": None,
        "task": "t",
        "prompt": None,
        "model": "m",
        "model_revision": "1",
        "run": "run",
    }


def test_a_key_depends_on_bytes_and_config_alone() -> None:
    assert fingerprint("a") == fingerprint("a") != fingerprint("b")
    assert image_fingerprint("a", "run") != image_fingerprint("a", "other")
    assert len(bytes.fromhex(fingerprint("a"))) == 16


@given(st.lists(st.sets(KEYS, max_size=8), max_size=4), st.sets(KEYS, max_size=8))
def test_the_index_finds_every_key_and_no_other(parts: list[set[str]], others: set[str]) -> None:
    flat = [(int(key[:16], 16), n) for n, keys in enumerate(parts) for key in keys]
    flat.sort()
    index = ReuseIndex(
        np.array([key for key, _ in flat], np.uint64),
        np.array([number for _, number in flat], np.int32),
        tuple(f"part{n}" for n in range(len(parts))),
    )
    heads: dict[str, set[str]] = {}
    for number, keys in enumerate(parts):
        for key in keys:
            heads.setdefault(key[:16], set()).add(f"part{number}")
    for key in set().union(others, *parts):
        found = index.find(key)
        assert found in heads[key[:16]] if key[:16] in heads else found is None


def test_labels_come_back_from_the_part_that_holds_them(tmp_path: Path) -> None:
    wanted = {shard: [fingerprint(f"{shard}{i}") for i in range(5)] for shard in "abcdefg"}
    names = [part(tmp_path, shard, keys) for shard, keys in wanted.items()]
    labels = StandingLabels(Storage(), str(tmp_path), build_index(Storage(), str(tmp_path), names))
    calls = [(shard, n, key) for shard, keys in wanted.items() for n, key in enumerate(keys, 1)]
    random.Random(0).shuffle(calls)  # more parts than are kept in memory
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda call: labels.get(call[2]), calls))
    for (shard, number, key), found in zip(calls, rows, strict=True):
        assert found is not None
        image, segments = found
        assert (image["file_name"], image["fingerprint"]) == (f"{shard}/{number}", key)
        assert [(s["image_id"], s["category"]) for s in segments] == [(number, shard)]
    assert labels.get(fingerprint("unheard of")) is None


def test_only_a_few_parts_are_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {shard: fingerprint(shard) for shard in "abcdef"}
    names = [part(tmp_path, shard, [key]) for shard, key in keys.items()]
    labels = StandingLabels(Storage(), str(tmp_path), build_index(Storage(), str(tmp_path), names))
    read: list[str] = []
    real = reuse.read_part

    def noted(storage: Storage, dataset: str, table: str, name: str, *rest: Any) -> Any:
        if table == "images":
            read.append(name[0])
        return real(storage, dataset, table, name, *rest)

    monkeypatch.setattr(reuse, "read_part", noted)
    for shard in "aabab":
        labels.get(keys[shard])
    assert read == ["a", "b"]
    for shard in "cdea":  # a was used last before c: b goes first, then a
        labels.get(keys[shard])
    assert "".join(read) == "abcdea"


def test_nothing_known_finds_nothing(tmp_path: Path) -> None:
    assert EMPTY_INDEX.find(fingerprint("a")) is None
    index = build_index(Storage(), str(tmp_path), [])
    assert len(index.keys) == len(index.parts) == 0
    assert StandingLabels(Storage(), str(tmp_path), index).get(fingerprint("a")) is None


def test_the_extreme_keys_are_found() -> None:
    index = ReuseIndex(np.array([0, 2**64 - 1], np.uint64), np.array([0, 1], np.int32), ("x", "y"))
    assert (index.find("0" * 32), index.find("f" * 32)) == ("x", "y")
    assert index.find("0" * 15 + "1" + "0" * 16) is None


def test_same_head_other_tail_is_not_mistaken(tmp_path: Path) -> None:
    key = fingerprint("a")
    name = part(tmp_path, "a", [key])
    labels = StandingLabels(Storage(), str(tmp_path), build_index(Storage(), str(tmp_path), [name]))
    assert labels.get(key[:16] + "0" * 16) is None
    assert labels.get(key) is not None


@pytest.mark.parametrize("code", [ErrorCode.READ_ERROR, ErrorCode.MODEL_ERROR, ErrorCode.CRASHED])
def test_failures_worth_another_try_are_not_in_the_index(tmp_path: Path, code: ErrorCode) -> None:
    names = [part(tmp_path, "a", [fingerprint("a")], code=code)]
    assert len(build_index(Storage(), str(tmp_path), names).keys) == 0


def test_lasting_failures_are(tmp_path: Path) -> None:
    names = [part(tmp_path, "a", [fingerprint("a")], code=ErrorCode.TRUNCATED)]
    assert build_index(Storage(), str(tmp_path), names).find(fingerprint("a")) == names[0]


def test_rows_without_a_key_are_left_out(tmp_path: Path) -> None:
    name = part(tmp_path, "a", ["", fingerprint("a"), ""])
    assert len(build_index(Storage(), str(tmp_path), [name, name]).keys) == 1


def test_the_index_does_not_depend_on_the_order_of_parts(tmp_path: Path) -> None:
    names = [part(tmp_path, s, [fingerprint("same"), fingerprint(s)]) for s in "abc"]
    one = build_index(Storage(), str(tmp_path), names)
    two = build_index(Storage(), str(tmp_path), names[::-1])
    assert one.find(fingerprint("same")) == two.find(fingerprint("same")) == names[0]
    np.testing.assert_array_equal(one.keys, two.keys)


def test_missing_parts_are_left_out(tmp_path: Path) -> None:
    good = part(tmp_path, "a", [fingerprint("a")])
    gone = part(tmp_path, "b", [fingerprint("b")])
    index = build_index(Storage(), str(tmp_path), [good, gone, "c-never"])
    labels = StandingLabels(Storage(), str(tmp_path), index)
    (tmp_path / "images" / f"{gone}.parquet").unlink()
    assert labels.get(fingerprint("b")) is None  # removed after planning
    assert labels.get(fingerprint("a")) is not None
    assert build_index(Storage(), str(tmp_path), [good, gone]).names == (good,)


@pytest.mark.parametrize("table", ["images", "annotations"])
def test_damaged_parts_never_stop_a_run(tmp_path: Path, table: str) -> None:
    """Bits flipped anywhere, and cut short: pyarrow answers with half a dozen exceptions."""
    name = part(tmp_path, "a", [fingerprint("a")])
    path = tmp_path / table / f"{name}.parquet"
    data = path.read_bytes()
    rng = random.Random(1)
    for _ in range(150):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        index = build_index(Storage(), str(tmp_path), [name])
        StandingLabels(Storage(), str(tmp_path), index).get(fingerprint("a"))
    index = ReuseIndex(
        np.array([int(fingerprint("a")[:16], 16)], np.uint64), np.zeros(1, np.int32), (name,)
    )
    for length in (0, 1, 4, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        assert StandingLabels(Storage(), str(tmp_path), index).get(fingerprint("a")) is None
