"""Damaged files of every kind that is read: one clear error or a row, never a crash.

A small budget a file; the seeds that once broke something stand as examples. MASKMILL_FUZZ=5000
tries so many of each, others every time.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from small_datasets import small_dataset

from pipeline.evaluation.sources.open import open_source
from pipeline.exporters.exports import ExportStamp
from pipeline.images.decode import decode_image
from pipeline.ledger.lease import FILE, Lease
from pipeline.ledger.ledger import open_ledger
from pipeline.prompts import open_prompts
from pipeline.readers import open_reader
from pipeline.storage.storage import Storage
from schemas.config.job import ImagesConfig, InputConfig, JobConfig
from schemas.config.layers import layered
from schemas.manifest import DatasetManifest, ShardReceipt
from schemas.records import Failure, ImageRecord, Sample

BUDGET = int(os.environ.get("MASKMILL_FUZZ", "0"))
FEW = settings(
    max_examples=BUDGET or 60,
    deadline=None,
    derandomize=not BUDGET,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)
EDIT = st.tuples(
    st.integers(0, 10**6), st.integers(1, 255), st.sampled_from(["flip", "cut", "dup"])
)


def edited(data: bytes, edits: list[tuple[int, int, str]]) -> bytes:
    """Bytes flipped, the end cut off, a piece doubled."""
    found = bytearray(data)
    for place, value, kind in edits:
        if not found:
            break
        at = place % len(found)
        if kind == "flip":
            found[at] ^= value
        elif kind == "cut":
            del found[at:]
        else:
            found[at:at] = found[at : at + value]
    return bytes(found)


def paths(data: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [prefix]
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(data, dict | list):
        items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, inner in items:
        found += paths(inner, (*prefix, key))
    return found


def replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


def survives(action: Callable[[], object]) -> None:
    """It works, or says in a ValueError or OSError what is wrong."""
    said = "fine"
    try:
        action()
    except (ValueError, OSError) as error:
        said = str(error)
    assert said


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "data"
    small_dataset(folder)
    return folder


def read_all(folder: Path) -> None:
    ledger = open_ledger(str(folder))
    for _ in ledger.rows():
        pass


@FEW
@given(st.randoms(use_true_random=False), JSON)
def test_a_manifest_with_any_value_anywhere(dataset, rng, value):
    text = (dataset / "manifest.json").read_text()
    data = json.loads(text)
    where = rng.choice(paths(data))
    made = json.dumps(replaced(data, where, value))
    survives(lambda: DatasetManifest.from_json(made).to_json())


@FEW
@given(st.lists(EDIT, min_size=1, max_size=4))
def test_a_manifest_with_any_bytes(dataset, edits):
    made = edited((dataset / "manifest.json").read_bytes(), edits)
    survives(lambda: DatasetManifest.from_json(made))


@FEW
@given(JSON)
@example({"shard": "a", "token": "b", "run": "r", "part": {}, "computed": 1, "reused": 0})
def test_receipts_stamps_and_leases_of_any_json(tmp_path, value):
    text = json.dumps(value)
    survives(lambda: ShardReceipt.from_json(text))
    (tmp_path / "exports.json").write_text(text)
    assert ExportStamp.read(Storage(), str(tmp_path)) is None or isinstance(value, dict)
    (tmp_path / FILE).write_text(text)
    with Lease(Storage(), str(tmp_path)) as lease:
        lease.take()


@FEW
@given(st.sampled_from(["images", "annotations"]), st.lists(EDIT, min_size=1, max_size=3))
def test_a_part_with_any_bytes(dataset, table, edits):
    file = sorted((dataset / table).iterdir())[0]
    sound = file.read_bytes()
    try:
        file.write_bytes(edited(sound, edits))
        survives(lambda: read_all(dataset))
    finally:
        file.write_bytes(sound)


@FEW
@given(JSON)
@example({"input": [], "output": 3, "model": None})
@example({"input": {"uri": "a"}, "output": "o", "model": {"name": "m"}, "storage": []})
def test_a_config_of_any_shape(value):
    if isinstance(value, dict):
        survives(lambda: JobConfig.parse(value))


@FEW
@given(st.text(max_size=40))
def test_a_config_file_and_settings_of_any_text(tmp_path, text):
    path = tmp_path / "job.toml"
    path.write_text(text, "utf-8", errors="replace")
    survives(lambda: layered(path, (text,), {}))


COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
    "categories": [{"id": 1, "name": "cell"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [1, 1, 4, 4],
            "area": 16,
            "iscrowd": 0,
            "segmentation": {"size": [9, 9], "counts": "1" * 4},
        }
    ],
}


@FEW
@given(st.randoms(use_true_random=False), JSON)
def test_coco_files_with_any_value_anywhere(tmp_path, rng, value):
    made = replaced(COCO, rng.choice(paths(COCO)), value)
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(made))

    def evaluates() -> None:
        source = open_source(str(path), storage=Storage())
        for entry in source.entries():
            source.read(entry.key)

    survives(lambda: open_prompts(str(path), Storage()))
    survives(evaluates)


@FEW
@given(st.sampled_from([".csv", ".json"]), st.binary(max_size=60))
@example(".csv", b"file_name,x,y\na.jpg,nan,1\n")
@example(".csv", b"\r\x00")
@example(".csv", b"file_name,x,y\n" + b"a" * 200_000)
def test_prompt_files_of_any_bytes(tmp_path, suffix, data):
    path = tmp_path / f"prompts{suffix}"
    path.write_bytes(data)
    survives(lambda: open_prompts(str(path), Storage()))


@FEW
@given(st.sampled_from([".tar", ".parquet", ".csv", ".txt", ".jsonl"]), st.binary(max_size=1200))
@example(".csv", b"a" * 200_000)
@example(".csv", b"path\n" + b'"' + b"a" * 200_000)
def test_containers_of_any_bytes(tmp_path, suffix, data):
    path = tmp_path / f"in{suffix}"
    path.write_bytes(data)

    def lists() -> None:
        reader = open_reader(InputConfig(uri=str(path)))
        for record in reader.list():
            reader.read(record)

    survives(lists)


@FEW
@given(
    st.sampled_from([".png", ".jpg", ".tif", ".bmp", ".gif", ".webp"]),
    st.lists(EDIT, min_size=1, max_size=3),
)
def test_pictures_with_any_bytes(suffix, edits):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    if suffix == ".gif":
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "GIF")
        data = buffer.getvalue()
    else:
        data = cv2.imencode(suffix, pixels)[1].tobytes()
    limits = ImagesConfig(max_pixels=10**6)
    found = decode_image(edited(data, edits), ImageRecord(f"a{suffix}", ""), limits)
    assert isinstance(found, Sample | Failure)
    if isinstance(found, Sample):
        assert found.pixels.shape[0] * found.pixels.shape[1] <= 10**6
