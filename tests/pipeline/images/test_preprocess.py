"""Preprocessing in a run: what the model sees changes, labels stay in the original's pixels."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from pictures import write_pictures
from pictures_encoded import RECORD, encoded, scene
from PIL import Image

from pipeline.engine.run import RunResult, label
from pipeline.images.preprocess import decode_through, make_chain, resolve_references
from pipeline.ledger.ledger import open_ledger
from pipeline.masks import codec
from pipeline.storage.storage import Storage
from pipeline.validation.validate import validate
from schemas.config.job import ImagesConfig, JobConfig
from schemas.config.preprocess import PreprocessConfig
from schemas.records import ErrorCode, Failure, Sample


def run(folder: Path, *steps: dict[str, Any], output: str = "out", **more: Any) -> RunResult:
    data = {
        "input": {"uri": str(folder / "in")},
        "output": str(folder / output),
        "model": {"name": "otsu"},
        "task": "instance",
        "execution": {"inline": True},
        "preprocess": {"steps": list(steps)},
        **more,
    }
    return label(JobConfig.parse(data), export=False, report=False)


def rows(folder: Path, output: str = "out") -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    return list(open_ledger(str(folder / output)).rows())


def union(image: dict[str, Any], segments: list[dict[str, Any]]) -> np.ndarray:
    size = image["height"], image["width"]
    found = np.zeros(size, bool)
    for segment in segments:
        found |= codec.decode(segment["rle"]["counts"], *size).astype(bool)
    return found


@pytest.mark.parametrize(
    "step",
    [
        {"step": "resize", "mode": "stretch", "size": [256, 200]},
        {"step": "resize", "mode": "letterbox", "size": [300, 200], "fill": 20},
        {"step": "resize", "mode": "shortest", "size": 320},
        {"step": "gaussian", "sigma": 0.5},
        {"step": "gamma", "gamma": 0.7},
    ],
)
def test_masks_stay_in_the_originals_pixels(tmp_path, step):
    write_pictures(tmp_path / "in", 6)
    run(tmp_path, output="plain")
    run(tmp_path, step)
    for (image, segments), (plain, expected) in zip(
        rows(tmp_path), rows(tmp_path, "plain"), strict=True
    ):
        assert (image["height"], image["width"]) == (plain["height"], plain["width"])
        assert len(segments) == len(expected)
        ours, theirs = union(image, segments), union(plain, expected)
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.85
    assert validate(str(tmp_path / "out")).ok


def test_a_chain_makes_the_invisible_visible(tmp_path):
    """16-bit, six bands, and objects that only the fifth shows, far below the full range."""
    (tmp_path / "in").mkdir()
    values = np.full((64, 64, 6), 30_000, np.uint16)
    values[..., 4] = 900
    values[20:40, 10:30, 4] = 1500
    tifffile.imwrite(
        tmp_path / "in" / "a.tif", values, photometric="minisblack", planarconfig="contig"
    )
    run(tmp_path, output="plain")
    assert rows(tmp_path, "plain")[0][1] == []
    run(
        tmp_path,
        {"step": "bands", "choose": [5]},
        {"step": "window", "low": 800, "high": 1600},
    )
    ((_, (segment,)),) = rows(tmp_path)
    assert segment["bbox_xywh"] == [10, 20, 20, 20]
    assert segment["area"] == 400


def test_a_band_that_is_not_there_fails_the_image_alone(tmp_path):
    write_pictures(tmp_path / "in", 2)
    values = np.zeros((30, 30, 5), np.uint8)
    tifffile.imwrite(
        tmp_path / "in" / "z.tif", values, photometric="minisblack", planarconfig="contig"
    )
    run(tmp_path, {"step": "bands", "choose": [5, 4, 3]}, max_failures="any")
    statuses = [(image["status"], image["error_message"]) for image, _ in rows(tmp_path)]
    assert statuses[2] == ("empty", None)
    message = "preprocess: bands: there is no band 5, the picture has 3"
    assert statuses[:2] == [("failed", message)] * 2
    assert rows(tmp_path)[0][0]["error_code"] == ErrorCode.UNSUPPORTED


def test_another_chain_is_computed_again_and_the_same_is_not(tmp_path):
    write_pictures(tmp_path / "in", 3)
    assert run(tmp_path, {"step": "median"}).computed == 3
    assert run(tmp_path, {"step": "median", "size": 3}).computed == 0
    assert run(tmp_path, {"step": "median", "size": 5}).computed == 3
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert manifest["config"]["preprocess"]["steps"] == [{"step": "median", "size": 5}]


def test_tiles_are_cut_from_the_resized_picture(tmp_path):
    write_pictures(tmp_path / "in", 2)
    resize = {"step": "resize", "size": 256}
    run(tmp_path, resize, output="whole")
    run(tmp_path, resize, tiling={"size": 192, "overlap": 64})
    for (image, segments), (_, expected) in zip(
        rows(tmp_path), rows(tmp_path, "whole"), strict=True
    ):
        assert len(segments) == len(expected)
        ours, theirs = union(image, segments), union(image, expected)
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.9


class TestReference:
    """`match_histogram` and its picture."""

    def config(self, uri: Path, sha256: str = "") -> PreprocessConfig:
        step = {"step": "match_histogram", "reference": str(uri), "sha256": sha256}
        return PreprocessConfig.parse({"steps": [step]})

    def test_its_hash_is_found_and_held(self, tmp_path):
        path = tmp_path / "ref.png"
        path.write_bytes(encoded(scene() // 3, "PNG"))
        resolved = resolve_references(self.config(path), Storage())
        (step,) = resolved.steps
        assert step.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        chain = make_chain(resolved, ImagesConfig(), Storage())
        found = decode_through(chain, encoded(scene(), "PNG"), RECORD, ImagesConfig())
        assert isinstance(found, Sample)
        assert abs(found.pixels.mean() - (scene() // 3).mean()) < 3
        path.write_bytes(encoded(scene(), "PNG"))
        with pytest.raises(ValueError, match="is not the picture with hash"):
            make_chain(resolved, ImagesConfig(), Storage())

    def test_a_moved_reference_computes_nothing_again(self, tmp_path):
        write_pictures(tmp_path / "in", 2)
        first, second = tmp_path / "ref.png", tmp_path / "elsewhere.png"
        first.write_bytes(encoded(scene(), "PNG"))
        second.write_bytes(first.read_bytes())
        other = {"step": "match_histogram", "reference": str(second)}
        assert run(tmp_path, {"step": "match_histogram", "reference": str(first)}).computed == 2
        assert run(tmp_path, other).computed == 0
        second.write_bytes(encoded(scene(30, 30), "PNG"))
        assert run(tmp_path, other).computed == 2

    def test_a_bad_one_is_said_before_the_first_image(self, tmp_path):
        write_pictures(tmp_path / "in", 1)
        text = tmp_path / "ref.txt"
        text.write_text("no picture")
        for path, message in ((text, "cannot be decoded"), (tmp_path / "gone.png", "gone.png")):
            with pytest.raises((ValueError, OSError), match=message):
                run(tmp_path, {"step": "match_histogram", "reference": str(path)})
        assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_sample_keeps_what_decoding_said():
    config = PreprocessConfig.parse({"steps": [{"step": "resize", "size": 16}]})
    chain = make_chain(config, ImagesConfig(), Storage())
    rgba = np.dstack((scene(), np.full(scene().shape[:2], 9, np.uint8)))
    found = decode_through(chain, encoded(rgba, "PNG"), RECORD, ImagesConfig())
    assert isinstance(found, Sample)
    assert (found.note, found.image_format) == ("alpha dropped", "PNG")
    assert found.picture_hw == scene().shape[:2]
    assert found.original_hw == found.pixels.shape[:2] == (16, 22)
    broken = decode_through(chain, b"", RECORD, ImagesConfig())
    assert isinstance(broken, Failure)
    assert broken.code == ErrorCode.EMPTY_FILE


def test_a_turned_picture_is_upright_before_the_first_step():
    exif = Image.Exif()
    exif[274] = 6
    config = PreprocessConfig.parse({"steps": [{"step": "gamma", "gamma": 1}]})
    chain = make_chain(config, ImagesConfig(), Storage())
    found = decode_through(chain, encoded(scene(), "PNG", exif=exif), RECORD, ImagesConfig())
    assert isinstance(found, Sample)
    assert (found.pixels == cv2.rotate(scene(), cv2.ROTATE_90_CLOCKWISE)).all()
