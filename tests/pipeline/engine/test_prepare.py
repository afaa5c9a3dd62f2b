"""One image on its way to the model: read, hashed, looked up, decoded; never an exception."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from recording_model import BROKEN, MemoryReader, png, shard_work, worker_spec

from pipeline.engine.prepare import Preparer, ReusedRows, ShardWork, one_line
from pipeline.engine.worker import ShardWorker
from pipeline.ledger.reuse import image_fingerprint
from pipeline.ledger.row_index import RowIndex, Wanted, read_parts
from pipeline.models.checkpoints.info import describe
from pipeline.storage.storage import Storage
from schemas.config.augment import AugmentConfig, SplitConfig
from schemas.config.model import TilingConfig
from schemas.records import Failure, ImageRecord, Sample

RECORD = ImageRecord("a.png", "memory:a.png", image_id=1)


@dataclass(frozen=True)
class RaisingReader:
    """A reader that fails with any exception."""

    error: BaseException
    ignored: dict[str, int] = field(default_factory=dict)

    def list(self) -> Iterator[ImageRecord]:
        return iter(())

    def read(self, record: ImageRecord) -> bytes:
        raise self.error


def test_a_picture_comes_with_its_bytes_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, {"a.png": png(5)})
    found = Preparer(spec).prepare(RECORD)
    assert isinstance(found.outcome, Sample)
    assert found.outcome.original_hw == (6, 9)
    assert (found.size_bytes, found.sha256) == (len(png(5)), hashlib.sha256(png(5)).hexdigest())
    assert found.fingerprint == image_fingerprint(found.sha256, "run")
    other = Preparer(replace(spec, run="other")).prepare(RECORD)
    assert other.sha256 == found.sha256
    assert other.fingerprint != found.fingerprint


@pytest.mark.parametrize(
    ("data", "code"), [(b"", "empty_file"), (BROKEN, "not_an_image"), (png(1)[:40], "truncated")]
)
def test_bytes_that_are_no_picture_have_a_key_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: bytes, code: str
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, {"a.png": data})
    found = Preparer(spec).prepare(RECORD)
    assert isinstance(found.outcome, Failure)
    assert found.outcome.code == code
    assert found.size_bytes == len(data)
    # Another version of the decoders may read what this one cannot.
    how = ("decoders 4",) if data else ()
    assert found.fingerprint == image_fingerprint(hashlib.sha256(data).hexdigest(), "run", *how)


def test_what_takes_another_path_than_before_has_another_key_and_the_rest_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((6, 9), 7, np.uint8)).save(file, "TIFF")
    files = {"a.png": png(5), "a.tif": file.getvalue()}
    spec, _ = worker_spec(monkeypatch, tmp_path, files)
    keys = {}
    for name, data in files.items():
        found = Preparer(spec).prepare(replace(RECORD, file_name=name))
        sha256 = hashlib.sha256(data).hexdigest()
        keys[name] = found.fingerprint == hashlib.sha256(f"{sha256} run".encode()).hexdigest()[:32]
    assert keys == {"a.png": True, "a.tif": False}


def test_a_refusal_for_want_of_memory_is_no_label(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, {"a.png": png(5)})
    monkeypatch.setattr("pipeline.images.memory.worker_memory", lambda: 1000)
    found = Preparer(spec).prepare(RECORD)
    assert isinstance(found.outcome, Failure)
    assert (found.outcome.code, found.outcome.temporary) == ("too_large", True)
    assert ShardWorker._failed(found, found.outcome)["fingerprint"] == ""
    by_rule = Failure(found.outcome.code, "more than images.max_pixels")
    assert ShardWorker._failed(found, by_rule)["fingerprint"] == found.fingerprint


def test_what_memory_refuses_is_read_in_bands_where_tiles_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    tiled = io.BytesIO()
    tifffile.imwrite(tiled, pixels, photometric="rgb", tile=(64, 64), compression="zlib")
    _, plain = cv2.imencode(".png", pixels[..., ::-1])
    files = {"a.png": plain.tobytes(), "a.tif": tiled.getvalue()}
    spec, _ = worker_spec(monkeypatch, tmp_path, files)
    tiling = TilingConfig(size=64, overlap=16)
    cut = replace(spec, config=spec.config.model_copy(update={"tiling": tiling}))
    monkeypatch.setattr(
        "pipeline.images.memory.worker_memory", lambda: 4 * 20 * pixels[..., 0].size
    )
    for name in files:
        record = ImageRecord(name, f"memory:{name}", image_id=1)
        whole = Preparer(spec).prepare(record).outcome
        assert isinstance(whole, Failure)
        assert whole.message.endswith("tile it or set images.max_pixels")
        found = Preparer(cut).prepare(record).outcome
        assert isinstance(found, Sample), found
        np.testing.assert_array_equal(np.asarray(found.pixels), pixels)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error"),
        (KeyError("x"), "KeyError: 'x'"),
        (MemoryError(), "MemoryError: no message"),
        (RuntimeError("two\nlines\t\tof  text"), "RuntimeError: two lines of text"),
    ],
)
def test_whatever_a_reader_raises_becomes_a_read_error_without_a_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, message: str
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, {})
    found = Preparer(replace(spec, reader=RaisingReader(error))).prepare(RECORD)
    assert isinstance(found.outcome, Failure)
    assert (found.outcome.code, found.outcome.message) == ("read_error", message)
    assert (found.size_bytes, found.sha256, found.fingerprint) == (None, "", "")


def test_ctrl_c_is_no_read_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, {})
    with pytest.raises(KeyboardInterrupt):
        Preparer(replace(spec, reader=RaisingReader(KeyboardInterrupt()))).prepare(RECORD)


def test_labels_that_stand_are_found_before_decoding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, {"a.png": png(5), "b.png": png(6)})
    worker = ShardWorker(spec)
    work = shard_work(["a.png"])
    receipt = worker.run(work, map(worker.preparer.prepare, work.records))
    rows = read_parts(Storage(), str(tmp_path), {receipt.part.name: Wanted})
    preparer = Preparer(spec, RowIndex(rows).labels())
    found = preparer.prepare(RECORD).outcome
    assert isinstance(found, ReusedRows)
    assert found.image["file_name"] == "a.png"
    assert [row["segment_id"] for row in found.segments] == [1]
    assert isinstance(preparer.prepare(replace(RECORD, file_name="b.png")).outcome, Sample)


def test_a_model_that_needs_less_gets_scaled_jpegs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 255, (20, 30, 3), np.uint8), (600, 400))
    files = {"a.png": cv2.imencode(".jpg", picture)[1].tobytes()}
    spec, _ = worker_spec(monkeypatch, tmp_path, files, min_side=100)
    found = Preparer(spec).prepare(RECORD).outcome
    assert isinstance(found, Sample)
    assert found.original_hw == (400, 600)
    assert found.pixels.shape == (100, 150, 3)
    whole, _ = worker_spec(monkeypatch, tmp_path, files)
    plain = Preparer(whole).prepare(RECORD).outcome
    assert isinstance(plain, Sample)
    assert plain.pixels.shape == (400, 600, 3)


def test_many_threads_get_what_one_gets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = {f"{i}.png": png(i) for i in range(40)}
    spec, _ = worker_spec(monkeypatch, tmp_path, files)
    preparer = Preparer(spec)
    records = shard_work(list(files)).records
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(preparer.prepare, records))
    assert [item.sha256 for item in found] == [preparer.prepare(r).sha256 for r in records]


def test_what_a_worker_gets_travels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, {"a.png": png(5)})
    spec = replace(spec, info=describe("otsu"))
    again = pickle.loads(pickle.dumps(spec))
    assert again == spec
    assert isinstance(again.reader, MemoryReader)
    work = shard_work(["a", "b"], poison=["b"])
    assert pickle.loads(pickle.dumps(work)) == work


def test_work_differs_where_the_poison_differs() -> None:
    """Read-ahead is looked up by the whole work: what was read with the poison is no use."""
    one, two = shard_work(["a", "b"]), shard_work(["a", "b"], poison=["b"])
    assert one != two
    assert len({one, two, shard_work(["a", "b"])}) == 2
    assert isinstance(one, ShardWork)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("x" * 900), "ValueError: " + "x" * 488),
        (ValueError(""), "ValueError: no message"),
        (ValueError("<Foo at 0x7f3a12bc>"), "ValueError: <Foo at 0x…>"),
        (ValueError("byte 0xff is kept"), "ValueError: byte 0xff is kept"),
    ],
)
def test_one_line(error: Exception, text: str) -> None:
    assert one_line(error) == text


def test_pictures_that_get_copies_keep_their_pixels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, {"a.png": png(5)})
    with_ids = replace(RECORD, copy_ids=(7,))
    found = Preparer(spec).prepare(with_ids)
    assert isinstance(found.outcome, Sample)
    assert found.original is found.outcome.pixels
    assert Preparer(spec).prepare(RECORD).original is None
    again = Preparer(spec).original(with_ids, found.sha256)
    np.testing.assert_array_equal(again, found.outcome.pixels)
    with pytest.raises(ValueError, match=r"a\.png has changed"):
        Preparer(spec).original(with_ids, "0" * 64)


def test_only_pictures_of_the_named_splits_get_copies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, {"a.png": png(5)})
    split = SplitConfig(test=1.0)
    config = spec.config.model_copy(update={"split": split})
    assert (
        Preparer(replace(spec, config=config)).prepare(replace(RECORD, copy_ids=(7,))).original
        is None
    )
    augment = spec.config.augment.model_copy(update={"splits": ("test",)})
    config = config.model_copy(update={"augment": augment})
    assert (
        Preparer(replace(spec, config=config)).prepare(replace(RECORD, copy_ids=(7,))).original
        is not None
    )


def test_copies_and_splits_are_in_the_wording_but_not_in_the_labels_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec, _ = worker_spec(monkeypatch, tmp_path, {"a.png": png(5)})
    wordings = {spec.wording}
    for changes in (
        {"split": SplitConfig(val=0.1)},
        {"augment": AugmentConfig(copies=1)},
        {"augment": AugmentConfig(copies=1, seed=1)},
    ):
        other = replace(spec, config=spec.config.model_copy(update=changes))
        wordings.add(other.wording)
        assert other.run == spec.run
    assert len(wordings) == 4
    off = {"augment": AugmentConfig(seed=5)}
    assert replace(spec, config=spec.config.model_copy(update=off)).wording == spec.wording
