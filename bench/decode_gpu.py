"""JPEG decoding: nvJPEG through torchvision against this program's decoder on all cores.

    python -m bench.decode_gpu [--pictures 256] [--seconds 2]

Bytes lie in memory. Ours ends in host memory, in threads as a worker has them; nvJPEG ends on the
GPU. Beside the rates: how many pixels of nvJPEG's differ from libjpeg-turbo's, and by how much at
most. One that differs makes a label depend on whether the worker had a GPU. Without a GPU
torchvision's own CPU decoder stands in, so that the script is known to run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.io import ImageReadMode, decode_jpeg

from bench.two_gpus import draw_pictures
from pipeline.images.decode import decode_image
from pipeline.ledger.processes import processors
from schemas.config.job import ImagesConfig
from schemas.records import ImageRecord, Sample

SIZES = ((480, 640), (1500, 2250))
BATCH = 16
RECORD, CONFIG = ImageRecord("bench", "bench"), ImagesConfig()


def ours(data: bytes) -> np.ndarray:
    """Pixels as a worker gets them.

    Raises:
        ValueError: It could not be decoded.
    """
    found = decode_image(data, RECORD, CONFIG)
    if not isinstance(found, Sample):
        raise ValueError(str(found))
    return found.pixels


def theirs(device: str, files: Sequence[torch.Tensor]) -> Any:
    """CxHxW tensors on the device."""
    return decode_jpeg(list(files), mode=ImageReadMode.RGB, device=device)


def rate(work: Callable[[], object], pictures: int, seconds: float) -> float:
    """Pictures a second, after one round to warm up."""
    work()
    rounds, started = 0, time.perf_counter()
    while not rounds or time.perf_counter() - started < seconds:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        rounds += 1
    return rounds * pictures / (time.perf_counter() - started)


def lines(hw: tuple[int, int], pictures: int, seconds: float, folder: Path) -> list[str]:
    """Rows of one size."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    drawn = draw_pictures(folder / f"{hw[0]}", pictures, hw)
    files = [path.read_bytes() for path in sorted(drawn.iterdir())]
    tensors = [torch.from_numpy(np.frombuffer(data, np.uint8).copy()) for data in files]
    batches = [tensors[start : start + BATCH] for start in range(0, len(tensors), BATCH)]
    name = f"{hw[1]}×{hw[0]}"
    rows = []
    with ThreadPoolExecutor(processors()) as pool:
        for threads, one in ((1, map), (processors(), pool.map)):
            some = files[: max(BATCH, len(files) // 8)] if threads == 1 else files
            found = rate(lambda one=one, some=some: list(one(ours, some)), len(some), seconds)
            rows.append(f"| {name} | ours, {threads} threads | {found:.0f} | |")
        decode = partial(theirs, device)
        apart = [
            np.abs(ours(data).astype(np.int16) - pixels.cpu().permute(1, 2, 0).numpy())
            for data, pixels in zip(files[:BATCH], decode(batches[0]), strict=True)
        ]
        other = 100 * float(np.mean([(one > 0).any(-1).mean() for one in apart]))
        most = max(int(one.max()) for one in apart)
        difference = f"{other:.2f} % of the pixels differ, by {most} at most"
        who = "nvJPEG" if device == "cuda" else "torchvision on the CPU"
        for streams, one in ((1, map), (4, pool.map)):
            found = rate(lambda one=one: list(one(decode, batches)), len(files), seconds)
            way = f"{who}, batches of {BATCH}, {streams} at a time"
            rows.append(f"| {name} | {way} | {found:.0f} | {difference} |")
    return rows


def main() -> None:
    """Prints both sizes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    print("| pictures | decoder | images/s | against ours |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as root:
        for hw in SIZES:
            print("\n".join(lines(hw, given.pictures, given.seconds, Path(root))), flush=True)


if __name__ == "__main__":
    main()
