"""Small datasets to report on, and the browser to look at them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import browser  # noqa: F401

from pipeline.ledger.ledger import Ledger, publish, write_dataset
from pipeline.masks import codec
from schemas.categories import Categories, Category
from schemas.config.job import JobConfig
from schemas.records import ErrorCode, Failure, ImageRecord, Segment, Segmentation

CELLS = Categories(
    (
        Category(1, "cell", True, "#1f9e89"),
        Category(5, "debris", True, "#d9541e"),
        Category(9, "background", False, "#8a8f98", is_background=True),
    )
)
NASTY = (
    "<img src=x onerror=alert(1)>.png",
    "</script><script>alert(2)</script>.png",
    "quote\"' onclick=alert(3) &amp;.png",
    "line\u2028end\u2029.png",
    "\u202egnp.exe.png",
)

MakeDataset = Callable[..., Ledger]


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """make_dataset(count=…, nasty=…, failed=…) → a ledger whose pictures lie in tmp_path/input."""

    def make(
        *, count: int = 12, nasty: bool = False, failed: int = 3, shard_size: int = 5
    ) -> Ledger:
        names = [f"plate-{n // 4}/field {n:03d}.png" for n in range(count)]
        names += NASTY if nasty else ()
        rows: list[tuple[ImageRecord, Segmentation | Failure]] = []
        for number, name in enumerate(names, 1):
            path = tmp_path / "input" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels, found = scene(number)
            path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
            rows.append((ImageRecord(name, str(path), image_id=number), found))
        for number in range(failed):
            name = f"broken/{NASTY[0] if nasty else number}-{number}.jpg"
            code = (ErrorCode.TRUNCATED, ErrorCode.NOT_AN_IMAGE)[number % 2]
            message = f"</script><b>{name}" if nasty else "ends too early"
            rows.append((ImageRecord(name, "", image_id=1000 + number), Failure(code, message)))
        ledger = write_dataset(
            str(tmp_path / "dataset"), rows, categories=CELLS, shard_size=shard_size
        )
        config = JobConfig.parse(
            {
                "input": {"uri": str(tmp_path / "input")},
                "output": "x",
                "model": {"name": "unet-nuclei", "threshold": 0.4},
            }
        )
        manifest = replace(
            ledger.manifest,
            input=str(tmp_path / "input"),
            config=json.loads(json.dumps(config.published())),
            model={"name": "unet-nuclei", "revision": "0123456789ab", "licence": "Apache-2.0"},
            packages={"numpy": "2.0"},
        )
        return Ledger(ledger.uri, publish(ledger.storage, ledger.uri, manifest), ledger.storage)

    return make


def scene(number: int) -> tuple[np.ndarray, Segmentation]:
    """A 60×80 picture: every third is empty; the others hold two cells and a piece of debris."""
    labels = np.zeros((60, 80), np.uint8)
    if number % 3:
        cv2.circle(labels, (20 + number % 7, 20), 9, 1, -1)
        cv2.circle(labels, (58, 24), 12, 2, -1)
        cv2.rectangle(labels, (10, 45), (30, 52), 3, -1)
    pixels = np.full((60, 80, 3), 30, np.uint8)
    pixels[labels > 0] = (80, 200, 120)
    segments = [
        Segment(
            category_id=5 if region.label == 3 else 1,
            counts=region.counts,
            area=region.area,
            bbox_xywh=region.bbox_xywh,
            score=None if region.label == 3 else round(0.5 + 0.4 * region.label / 2, 3),
        )
        for region in codec.regions(labels)
    ]
    rest = codec.regions((labels == 0).astype(np.uint8))[0]
    segments.append(Segment(9, rest.counts, rest.area, rest.bbox_xywh, None))
    return pixels, Segmentation(60, 80, tuple(segments))
