"""What a run notes for the next, also where it ends the work of one that was killed."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest
from otsu_jobs import otsu_job
from pictures import disc_picture, write_pictures

from pipeline.engine import run
from pipeline.engine.run import label

HISTORY = {"max_removed": 0.2}


def notes(folder: Path, output: str) -> bytes:
    (path,) = (folder / output / "index").glob("*.parquet")
    return path.read_bytes()


def test_a_run_that_ends_a_killed_one_notes_what_that_has_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "in", 12)
    for output in ("ours", "killed"):
        label(otsu_job(tmp_path, output, history=HISTORY), export=False, report=False)
    for path in (tmp_path / "in").rglob("*.png"):
        os.utime(path, (1, 1))  # so that all are read again
    cv2.imwrite(str(tmp_path / "in" / "a" / "p000.png"), disc_picture(99))
    label(otsu_job(tmp_path, "ours", history=HISTORY), export=False, report=False)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "keep_rows", die)
        with pytest.raises(KeyboardInterrupt):
            label(otsu_job(tmp_path, "killed", history=HISTORY), export=False, report=False)
    label(otsu_job(tmp_path, "killed", history=HISTORY), export=False, report=False)
    assert notes(tmp_path, "ours") == notes(tmp_path, "killed")
