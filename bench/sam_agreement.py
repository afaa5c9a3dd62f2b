"""SAM "everything" with real weights: reduced precision against the float32 reference, end to end.

    python -m bench.sam_agreement --data FOLDER                    # cuda, else cpu; bfloat16
    python -m bench.sam_agreement --data FOLDER --dtype float32    # the fast mode alone

FOLDER is the shared test data: `weights/sam-nuclei-tiny` labels the first pictures of the test
split of `nuclei-dsb2018`, once as the reference (float32, the package's own order of steps) and
once as a job does it. Masks of a picture are paired so that the sum of their IoU is largest.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from pipeline.images.decode import decode_image
from pipeline.masks import codec
from pipeline.models.checkpoints.info import ModelInfo, describe
from pipeline.models.sam import SamSegmenter
from pipeline.prompts.request import Request
from schemas.config.job import ImagesConfig
from schemas.config.model import ModelConfig
from schemas.config.prompts import EverythingConfig
from schemas.records import Failure, ImageRecord, Sample, Segmentation

WEIGHTS = "weights/sam-nuclei-tiny"
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "for nuclei": {
        "points_per_side": 24,
        "pred_iou_thresh": 0.6,
        "stability_score_thresh": 0.6,
    },
}
"""The defaults of the package find little with so small a network."""

SAME = 0.5
"""IoU from which two masks are a pair."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two runs over the same pictures compare.

    Attributes:
        pictures: How many.
        unequal: Pictures on which the runs found different numbers of masks.
        counts: Masks of the first and of the second run.
        ious: Of the pairs.
        exact: Pairs that are the same to the last pixel.
    """

    pictures: int
    unequal: int
    counts: tuple[int, int]
    ious: np.ndarray
    exact: int

    @property
    def alone(self) -> int:
        """Masks of both runs that have no partner."""
        return sum(self.counts) - 2 * len(self.ious)

    @property
    def mean(self) -> float:
        """IoU of the pairs, on average; 1 where there is none."""
        return float(self.ious.mean()) if len(self.ious) else 1.0

    def meets_the_bar(self) -> bool:
        """Issue 4's: IoU of matched masks at least 0.995, counts differ on a tenth at most."""
        return self.mean >= 0.995 and self.unequal <= self.pictures / 10


def agreement(first: Sequence[Segmentation], second: Sequence[Segmentation]) -> Agreement:
    """Compares two runs over the same pictures, in the same order."""
    ious: list[float] = []
    unequal = exact = 0
    for one, other in zip(first, second, strict=True):
        unequal += len(one.segments) != len(other.segments)
        mine, theirs = ([segment.counts for segment in each.segments] for each in (one, other))
        if not mine or not theirs:
            continue
        table = codec.iou(mine, theirs, one.height, one.width)
        for row, column in zip(*linear_sum_assignment(-table), strict=True):
            if table[row, column] >= SAME:
                ious.append(float(table[row, column]))
                exact += mine[row] == theirs[column]
    counts = (sum(len(each.segments) for each in first), sum(len(each.segments) for each in second))
    return Agreement(len(first), unequal, counts, np.array(ious), exact)


def nuclei(data: Path, count: int) -> list[Sample]:
    """The first pictures of the test split, decoded."""
    root = data / "nuclei-dsb2018"
    index = json.loads((root / "index.json").read_text())["images"]
    names = [each["image"] for each in index if each["split"] == "test"][:count]
    samples = []
    for name in names:
        found = decode_image((root / name).read_bytes(), ImageRecord(name, ""), ImagesConfig())
        if isinstance(found, Failure):
            raise ValueError(f"{name}: {found.message}")
        samples.append(found)
    return samples


def everything(
    info: ModelInfo, samples: Sequence[Sample], *, device: str, dtype: str, **options: Any
) -> list[Segmentation]:
    """What a job finds in the pictures."""
    asked = replace(info, asking=Request(everything=EverythingConfig(**options)))
    segmenter = SamSegmenter(asked, ModelConfig(name="x", dtype=dtype), ("instance",))  # pyright: ignore
    segmenter.load(device)
    try:
        return segmenter.segment(samples)
    finally:
        segmenter.close()


def main() -> None:
    """Prints a row for each of `SETTINGS`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the shared test data")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--pictures", type=int, default=20)
    given = parser.parse_args()
    where = torch.cuda.get_device_name() if given.device != "cpu" else "cpu"
    info = describe(str(given.data / WEIGHTS))
    samples = nuclei(given.data, given.pictures)
    print(f"torch {torch.__version__} on {where}; {len(samples)} pictures, {given.dtype}")
    print(
        "| settings | masks, reference | masks | pictures with another count | without a partner "
        "| pairs: mean IoU | 5 % are below | the same to the pixel | bar met |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for name, options in SETTINGS.items():
        first, second = (
            everything(
                info,
                samples,
                device=given.device,
                dtype=dtype,
                reference=reference,
                **options,
            )
            for dtype, reference in (("float32", True), (given.dtype, False))
        )
        found = agreement(first, second)
        low = float(np.quantile(found.ious, 0.05)) if len(found.ious) else 1.0
        print(
            f"| {name} | {found.counts[0]} | {found.counts[1]} | {found.unequal} of "
            f"{found.pictures} | {found.alone} | {found.mean:.4f} | {low:.4f} | {found.exact} | "
            f"{'yes' if found.meets_the_bar() else 'no'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
