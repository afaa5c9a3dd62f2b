"""RLE encode from a C-order mask: ours against pycocotools, byte-equal, in one process.

Masks are real objects of COCO photos (their polygons drawn at the photo's size, then scaled to
the sizes below). pycocotools is timed with the Fortran-order copy that it demands.

    python -m bench.rle --data FOLDER     # the folder holds coco-photos/ and nuclei-dsb2018/
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from pipeline.masks import codec

SIZES = ((480, 640), (1080, 1920))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=7)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    objects = _objects(args.data / "coco-photos" / "instances.json")
    print(f"{len(objects)} objects; CPU milliseconds, best of {args.repeat} a mask")
    for height, width in SIZES:
        scaled = [
            np.ascontiguousarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST))
            for mask in objects
        ]
        for name, stack in (("uint8", scaled), ("bool", [mask.astype(bool) for mask in scaled])):
            _check(stack)
            ours = mean(_best(lambda m=m: codec.encode(m), args.repeat) for m in stack)
            peer = mean(_best(lambda m=m: _peer(m), args.repeat) for m in stack)
            print(
                f"{width}×{height} {name:5}: ours {ours:.3f}, pycocotools {peer:.3f}: "
                f"{peer / ours:.1f}×"
            )
        batch = np.stack(scaled[:16])
        peer = _best(lambda b=batch: _peer_stacked(b), args.repeat) / len(batch)
        ours = _best(lambda b=batch: [codec.encode(m) for m in b], args.repeat) / len(batch)
        print(
            f"{width}×{height} 16 stacked: ours {ours:.3f}, pycocotools {peer:.3f}: "
            f"{peer / ours:.1f}×"
        )
    for label_map in _label_maps(args.data / "nuclei-dsb2018"):
        count = len(np.unique(label_map)) - 1
        ours = _best(lambda m=label_map: codec.regions(m), args.repeat)
        peer = _best(lambda m=label_map: _peer_regions(m), 2)
        height, width = label_map.shape
        print(
            f"label map {width}×{height}, {count} nuclei: regions {ours:.1f} ms, "
            f"pycocotools a label {peer:.0f} ms: {peer / ours:.0f}×"
        )


def _objects(path: Path) -> list[np.ndarray]:
    data = json.loads(path.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
    return [
        codec.decode(codec.from_coco(item["segmentation"], h, w), h, w)
        for item in data["annotations"][:64]
        for h, w in [sizes[item["image_id"]]]
    ]


def _label_maps(folder: Path) -> list[np.ndarray]:
    """The test picture with most nuclei, and a 1000×1000 mosaic of the sixteen fullest."""
    rows = json.loads((folder / "index.json").read_text())["images"]
    test = sorted((row for row in rows if row["split"] == "test"), key=lambda row: row["nuclei"])
    maps = [
        np.array(Image.open(folder / "test" / "labels" / f"{row['id']}.png")).astype(np.int32)
        for row in test[-16:]
    ]
    mosaic = np.zeros((1000, 1000), np.int32)
    for place, tile in enumerate(maps):
        top, left = place // 4 * 250, place % 4 * 250
        part = tile[:250, :250]
        spot = mosaic[top : top + part.shape[0], left : left + part.shape[1]]
        spot[part > 0] = part[part > 0] + mosaic.max()
    return [maps[-1], mosaic]


def _check(stack: list[np.ndarray]) -> None:
    for mask in stack:
        if codec.encode(mask) != _peer(mask):
            raise SystemExit("not byte-equal to pycocotools")


def _peer(mask: np.ndarray) -> bytes:
    code: Any = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return code["counts"]


def _peer_stacked(batch: np.ndarray) -> list[bytes]:
    fortran = np.asfortranarray(batch.transpose(1, 2, 0))
    codes: Any = coco_mask.encode(fortran)
    return [code["counts"] for code in codes]


def _peer_regions(label_map: np.ndarray) -> list[bytes]:
    return [_peer(label_map == label) for label in np.unique(label_map) if label]


def _best(call: Callable[[], object], repeat: int) -> float:
    call()
    times = []
    for _ in range(repeat):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times) * 1e3


if __name__ == "__main__":
    main()
