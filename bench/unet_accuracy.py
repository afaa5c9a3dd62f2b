"""Matching accuracy of a `unet` checkpoint on a split, exactly as shipped: float16 file, CPU.

python -m bench.unet_accuracy --data FOLDER --split val [--model unet-nuclei]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pipeline.masks import codec
from pipeline.models.checkpoints.info import describe
from pipeline.models.unet import UNetSegmenter
from pipeline.training.nuclei.data import read_pictures
from pipeline.training.nuclei.validate import IOU_THRESHOLDS, NO_MATCHES, Matches, match
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample


def main() -> None:
    """Prints accuracy pooled over pictures, a row a kind, a column an IoU threshold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", default="unet-nuclei")
    arguments = parser.parse_args()
    options = ModelConfig(name=arguments.model)
    model = UNetSegmenter(describe(arguments.model), options, ("instance",))
    model.load("cpu")
    pooled: dict[str, Matches] = {}
    for picture in read_pictures(arguments.data, arguments.split):
        shape = picture.label_map.shape
        record = ImageRecord(picture.name, picture.name)
        (found,) = model.segment([Sample(record, picture.levels[0], shape)])
        label_map = np.zeros(shape, np.int32)
        for number, segment in enumerate(found.segments, 1):
            label_map[codec.decode(segment.counts, *shape) > 0] = number
        matches = match(label_map, picture.label_map)
        for key in ("all", picture.kind):
            pooled[key] = pooled.get(key, NO_MATCHES) + matches
    print("| kind | found / true | mean | " + " | ".join(f"{t:.2f}" for t in IOU_THRESHOLDS) + " |")
    for kind, matches in pooled.items():
        values = matches.accuracy()
        cells = " | ".join(f"{value:.3f}" for value in (sum(values) / len(values), *values))
        print(f"| {kind} | {matches.found} / {matches.true} | {cells} |")


if __name__ == "__main__":
    main()
