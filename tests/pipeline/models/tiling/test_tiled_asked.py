"""Families that the job asks for categories have maps, too, which are blended across tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_text import picture, text_checkpoint

from pipeline.engine.run import label
from schemas.config.job import JobConfig

HW = (64, 90)


def asked(name: str, folder: Path) -> dict[str, Any]:
    if name == "clipseg":
        return {"text": ["cat", "dog"]}
    mask = np.zeros(HW, np.uint8)
    mask[10:40, 20:60] = 1
    cv2.imwrite(str(folder / "mask.png"), mask)
    return {
        "exemplars": [f"{folder}/in/a.png:@{folder}/mask.png={word}" for word in ("cat", "dog")]
    }


@pytest.mark.parametrize("name", ["clipseg", "seggpt"])
def test_a_picture_larger_than_a_tile_is_labelled(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/a.png"), picture(HW, 1).pixels)
    job = {
        "input": {"uri": str(tmp_path / "in")},
        "output": str(tmp_path / "out"),
        "model": {"name": str(text_checkpoint(name)), "threshold": 0.0},
        "task": "semantic",
        "prompts": asked(name, tmp_path),
        "tiling": {"size": 48, "overlap": 16},
        "execution": {"inline": True},
    }
    done = label(JobConfig.parse(job), export=False, report=False)
    assert done.failed == 0
    rows = pq.read_table(tmp_path / "out/annotations").to_pylist()
    assert {row["category_id"] for row in rows} <= {1, 2}
    assert sum(row["area"] for row in rows) == HW[0] * HW[1], "every pixel is above 0"
    assert {row["prompt"] for row in rows} <= (
        {"cat", "dog"} if name == "clipseg" else {"a.png:@mask.png"}
    )
    assert all(row["prompt"] for row in rows)
