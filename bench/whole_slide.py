"""A whole-slide image labelled in tiles: seconds and the peak memory of the process that does it.

    python -m bench.whole_slide                                # 40,000 × 30,000, unet-nuclei
    python -m bench.whole_slide --height 7500 --width 10000    # a smaller one
    python -m bench.whole_slide --raw --model otsu --measure   # 3.6 GB, and `jobs.measure`

The slide is a tiled pyramid with JPEG in its tiles, as scanners write it: islands of simulated
nuclei on a blank slide, about a seventh of its area. `jobs.label` gets it as any other file, in a
process of its own; nothing is left out, blank tiles go through the model, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from examples.simulate import render_field

TILE = 512
ISLAND = 4 * TILE
"""Pixels of a side; of an island of nuclei, which are one field and its mirror images."""
PLACE = 11 * TILE
"""From one island to the next."""
REDUCED = 16

Pixels = npt.NDArray[np.uint8]


def main() -> None:
    """Prints the slide's size, seconds and peak memory, and how many nuclei were found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--height", type=int, default=30_000)
    parser.add_argument("--width", type=int, default=40_000)
    parser.add_argument("--model", default="unet-nuclei")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--overlap", type=int, default=128)
    parser.add_argument("--raw", action="store_true", help="tiles that are not compressed")
    parser.add_argument("--measure", action="store_true", help="also measure what was found")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slide-") as folder:
        slide = Path(folder) / "in" / "slide.tif"
        slide.parent.mkdir()
        write_slide(slide, given.height, given.width, raw=given.raw)
        print(f"{given.width} × {given.height}, a file of {slide.stat().st_size / 1e6:.0f} MB")
        out = Path(folder) / "out"
        command = ["jobs.label", "--inline", "--no-export", "--no-report"]
        command += ["--input", str(slide.parent), "--output", str(out), "--model", given.model]
        command += ["--task", "instance", "--tile-size", str(given.tile)]
        command += ["--tile-overlap", str(given.overlap)]
        _timed(command)
        print(json.loads((out / "manifest.json").read_text())["counts"])
        if given.measure:
            _timed(["jobs.measure", "--dataset", str(out), "--output", f"{out}/objects.parquet"])


def _timed(command: list[str]) -> None:
    """Runs a job; prints its seconds and the peak memory of its largest process."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *command])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds, peak = time.perf_counter() - begin, usage.ru_maxrss * 1024 / 1e9
    print(f"{command[0]}: {seconds:.0f} s, peak {peak:.2f} GB, exit code {process.returncode}")


def write_slide(path: Path, height: int, width: int, *, raw: bool = False) -> None:
    """Writes a pyramid of two levels, `REDUCED` times smaller the second."""
    grey = render_field(0, size_hw=(TILE, TILE), nuclei=90).pixels.astype(np.uint8)
    quarter = np.concatenate((grey, grey[::-1]))
    half = np.concatenate((quarter, quarter[:, ::-1]), axis=1)
    field = np.repeat(np.tile(half, (2, 2))[..., None], 3, 2)
    small = np.zeros((height // REDUCED, width // REDUCED, 3), np.uint8)
    shrunk = cv2.resize(field, None, fx=1 / REDUCED, fy=1 / REDUCED)
    for y in range(0, height // REDUCED, PLACE // REDUCED):
        for x in range(0, width // REDUCED, PLACE // REDUCED):
            island = small[y : y + len(shrunk), x : x + len(shrunk)]
            island[:] = shrunk[: island.shape[0], : island.shape[1]]
    tile = np.ascontiguousarray if raw else _compressed
    options = {"compression": None if raw else "jpeg", "tile": (TILE, TILE), "metadata": None}
    color = {"photometric": "rgb"} if raw else {"photometric": "ycbcr", "subsampling": (1, 1)}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(
            _tiles(field, height, width, tile),
            shape=(height, width, 3),
            dtype=np.uint8,
            subifds=1,
            **color,
            **options,
        )
        file.write(small, photometric="rgb", subfiletype=1, **options)


def _tiles(field: Pixels, height: int, width: int, tile: Callable[[Pixels], Any]) -> Iterator[Any]:
    """The full size's tiles, each made once however often it comes."""
    blank = tile(np.zeros((TILE, TILE, 3), np.uint8))
    known = {
        (y, x): tile(field[y : y + TILE, x : x + TILE])
        for y in range(0, ISLAND, TILE)
        for x in range(0, ISLAND, TILE)
    }
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            yield known.get((y % PLACE, x % PLACE), blank)


def _compressed(tile: Pixels) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(tile, 85, subsampling="444"))


if __name__ == "__main__":
    main()
