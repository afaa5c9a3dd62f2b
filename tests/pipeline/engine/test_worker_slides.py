"""A slide's tiles are decoded when it is their turn: a damaged one is the file's fault."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from otsu_jobs import otsu_job

from pipeline.engine.run import label
from pipeline.images import large
from pipeline.ledger.ledger import open_ledger
from pipeline.storage.file_bytes import FileBytes


def test_a_damaged_tile_is_a_decode_error_and_not_the_model_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, tile=(64, 64), photometric="rgb", compression="zlib")
    data = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        page = opened.pages[0]
        at, count = page.dataoffsets[9], page.databytecounts[9]
    data[at : at + count] = bytes(count)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/slide.tif").write_bytes(data)
    monkeypatch.setattr(large, "LARGE", 1)
    config = otsu_job(tmp_path, tiling={"size": 128, "overlap": 16}, max_failures="1")
    label(config, export=False, report=False)
    ((row, segments),) = open_ledger(str(tmp_path / "out")).rows()
    assert (row["status"], row["error_code"]) == ("failed", "decode_error")
    assert row["error_message"] == "TIFF: damaged ADOBE_DEFLATE data"
    assert segments == []


def rows_of(folder: Path) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    return [
        (dict(row), [dict(one) for one in found]) for row, found in open_ledger(str(folder)).rows()
    ]


def test_a_slide_read_by_ranges_has_the_rows_of_one_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = np.full((256, 320, 3), 30, np.uint8)
    scene[40:90, 60:200] = scene[150:230, 20:120] = 220
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/slide.tif", scene, tile=(64, 64), photometric="rgb")
    monkeypatch.setattr(large, "LARGE", 1)
    opened: list[object] = []
    real = FileBytes.sha256
    monkeypatch.setattr(FileBytes, "sha256", lambda self: opened.append(self) or real(self))
    found = []
    for name, least in (("whole", 1 << 40), ("ranges", 1)):
        monkeypatch.setattr(large, "LARGE_FILE", least)
        config = otsu_job(tmp_path, name, tiling={"size": 128, "overlap": 16})
        label(config, export=False, report=False)
        assert bool(opened) == (name == "ranges")
        found.append(rows_of(tmp_path / name))
    assert found[0] == found[1]
    assert len(found[0][0][1]) == 3  # two objects and the ground


def test_a_slide_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    path = tmp_path / "in/slide.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb")
    monkeypatch.setattr(large, "LARGE", 1)
    monkeypatch.setattr(large, "LARGE_FILE", 1)
    monkeypatch.setattr("pipeline.storage.file_bytes.BLOCK", 4096)
    real = FileBytes.sha256

    def then_written(self: FileBytes) -> str:
        digest = real(self)
        if not done:
            done.append(1)
            path.write_bytes(path.read_bytes()[:-500] + bytes(500))
        return digest

    done: list[int] = []
    monkeypatch.setattr(FileBytes, "sha256", then_written)
    config = otsu_job(tmp_path, tiling={"size": 128, "overlap": 16}, max_failures="1")
    label(config, export=False, report=False)
    ((row, _),) = rows_of(tmp_path / "out")
    assert (row["status"], row["error_code"]) == ("failed", "read_error")
    assert "has changed while it was read" in row["error_message"]
    assert row["fingerprint"] in ("", None)
    label(config, export=False, report=False, retry_failed=True)
    ((row, _),) = rows_of(tmp_path / "out")
    assert row["status"] != "failed"
