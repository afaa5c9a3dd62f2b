"""A slide's tiles are decoded when it is their turn: a damaged one is the file's fault."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from otsu_jobs import otsu_job

from pipeline.engine.run import label
from pipeline.images import large
from pipeline.ledger.ledger import open_ledger


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
