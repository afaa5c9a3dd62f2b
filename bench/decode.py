"""Decoding: images a second on one core, ours against Pillow, OpenCV and simplejpeg alone.

Everything starts from the bytes in memory and ends as an upright RGB array; CPU time of one
thread, best of a few rounds, the contestants taking turns.

    python -m bench.decode --data FOLDER      # the folder holds coco-photos/, photos/, nuclei-…/
"""

from __future__ import annotations

import argparse
import io
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from pipeline.images.decode import decode_image
from schemas.config.job import ImagesConfig
from schemas.records import ImageRecord

RECORD = ImageRecord("bench", "bench")
CONFIG = ImagesConfig()
KINDS = (
    ("JPEG", {}),
    ("PNG", {"compress_level": 1}),
    ("WEBP", {"method": 0}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("GIF", {}),
    ("BMP", {}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    photos = sorted((args.data / "coco-photos" / "images").glob("*.jpg"))
    large = args.data / "photos" / "large_3888x2592.jpeg"
    cells = sorted((args.data / "nuclei-dsb2018" / "test" / "images").glob("*.png"))[:16]
    for name, paths in (
        (f"{len(photos)} COCO photos (JPEG, about 640×480)", photos),
        ("one photo of 3888×2592 (JPEG)", [large]),
        (f"{len(cells)} microscopy pictures (PNG)", cells),
    ):
        files = [path.read_bytes() for path in paths]
        print(name)
        jpeg = paths[0].suffix.startswith(".jp")
        contestants: dict[str, Callable[[bytes], object]] = {"ours": _ours, "Pillow": _pillow}
        if jpeg:
            contestants |= {"simplejpeg alone": simplejpeg.decode_jpeg}
        contestants |= {"OpenCV": _opencv}
        _compare(contestants, files, args.repeat)
        for side in (256, 512) if jpeg else ():
            print(f"  the shorter side may shrink to {side}:")
            _compare(
                {
                    "ours": lambda data, side=side: _ours(data, side),
                    "Pillow draft": lambda data, side=side: _pillow(data, side),
                    "Pillow full": _pillow,
                },
                files,
                args.repeat,
            )
    _pauses(large.read_bytes())


def _ours(data: bytes, side: int | None = None) -> object:
    return decode_image(data, RECORD, CONFIG, min_side=side)


def _pillow(data: bytes, side: int | None = None) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    if side is not None:
        scale = side / min(image.size)
        image.draft("RGB", (round(image.width * scale), round(image.height * scale)))
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _opencv(data: bytes) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _compare(
    contestants: dict[str, Callable[[bytes], object]], files: Sequence[bytes], repeat: int
) -> None:
    best = dict.fromkeys(contestants, float("inf"))
    for _ in range(repeat):
        for name, decode in contestants.items():
            start = time.thread_time()
            for data in files:
                decode(data)
            best[name] = min(best[name], time.thread_time() - start)
    for name, seconds in best.items():
        ratio = seconds / best["ours"]
        print(f"  {name:18} {len(files) / seconds:8.1f} images/s   ours is {ratio:.2f}×")


def _pauses(photo: bytes) -> None:
    """How long a decoding thread keeps another thread from running Python."""
    image = Image.fromarray(simplejpeg.decode_jpeg(photo))
    print(f"the longest pause of a Python loop beside the decoding of {image.size} pixels, ms")
    sys.setswitchinterval(0.0005)
    for kind, options in KINDS:
        file = io.BytesIO()
        image.save(file, kind, **options)
        pauses = [_longest_pause(file.getvalue()) for _ in range(5)]
        print(f"  {kind:5} {min(pauses) * 1e3:6.1f}")


def _longest_pause(data: bytes) -> float:
    thread = threading.Thread(target=_ours, args=(data,))
    longest, last = 0.0, time.perf_counter()
    thread.start()
    while thread.is_alive():
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest


if __name__ == "__main__":
    main()
