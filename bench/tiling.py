"""Tiling: a picture in tiles against the same in one piece, and the memory that a huge one takes.

    python -m bench.tiling                                 # otsu and unet-nuclei, 20,000 × 20,000
    python -m bench.tiling --model FOLDER --picture FILE   # another model on a real picture

Every measurement is a process of its own, so that its peak memory (resident set) is its own. The
picture is a smaller one repeated, mirrored at each step. First one of `--fits` pixels a side, that
goes in one piece as well: seconds, memory, and how far the two answers are the same. Then one of
`--side` pixels in tiles alone. Then what decoding such a picture takes before any model sees it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from examples.simulate import render_field
from pipeline.images.decode import decode_image
from pipeline.masks.codec import decode, iou
from pipeline.models.checkpoints.families import Segmenter, segmenter_class
from pipeline.models.checkpoints.info import describe
from pipeline.models.tiling.tiled import Tiled
from schemas.config.job import ImagesConfig
from schemas.config.model import ModelConfig, TilingConfig
from schemas.records import ImageRecord, Sample, Segmentation

RECORD = ImageRecord("bench", "bench")
FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 85},
    "PNG": {"compress_level": 1},
    "TIFF": {"compression": "tiff_lzw"},
}


def main() -> None:
    """Prints seconds, megapixels a second, peak memory and agreement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", help="default: otsu, unet-nuclei")
    parser.add_argument("--picture", type=Path, help="default: a simulated field of nuclei")
    parser.add_argument("--fits", type=int, default=2048)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--overlap", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-decode", action="store_true")
    parser.add_argument("--do", nargs=2, metavar=("WHAT", "SIDE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.do:
        what, side = given.do
        print(json.dumps({**WORK[what](given, int(side)), "memory": _peak()}))
        return
    print(f"a picture of {given.side}² pixels is {3 * given.side**2 / 1e9:.2f} GB")
    for model in given.model or ["otsu", "unet-nuclei"]:
        print(f"{model}, tiles of {given.tile}, overlap {given.overlap}, {given.device}")
        both = _child(given, model, "both", given.fits)
        for what in ("whole", "tiled"):
            _show(f"{given.fits}² {what}", given.fits, _child(given, model, what, given.fits))
        print(
            f"  tiled takes {both['ratio']:.2f}× the time of one piece; pixels of the same "
            f"category {both['pixels']:.5f}; of {both['objects']} segments the same to the last "
            f"pixel {both['equal']:.4f}, with IoU ≥ 0.9 {both['alike']:.4f}"
        )
        _show(f"{given.side}² tiled", given.side, _child(given, model, "tiled", given.side))
    if not given.no_decode:
        print("decoding alone")
        for kind in FORMATS:
            _show(kind, given.side, _child(given, "otsu", kind, given.side))


def _child(given: argparse.Namespace, model: str, what: str, side: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.tiling", "--do", what, str(side), "--model", model]
    for name in ("picture", "tile", "overlap", "device"):
        if (value := getattr(given, name)) is not None:
            command += [f"--{name}", str(value)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"seconds": float("nan"), "memory": float("nan"), "note": "failed"}
    return json.loads(done.stdout.splitlines()[-1])


def _show(title: str, side: int, result: dict[str, Any]) -> None:
    speed = side * side / 1e6 / result["seconds"]
    note = result.get("note", "")
    print(
        f"  {title:16} {result['seconds']:7.1f} s  {speed:6.2f} MP/s  "
        f"peak {result['memory']:.2f} GB (before: {result.get('before', 0):.2f})  {note}"
    )


def _peak() -> float:
    """Largest resident set of this process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _canvas(given: argparse.Namespace, side: int) -> np.ndarray:
    """side × side × 3: the picture and its mirror images, written in place."""
    if given.picture is None:
        grey = render_field(0, size_hw=(512, 512), nuclei=90).pixels.astype(np.uint8)
        small = np.repeat(grey[..., None], 3, 2)
    else:
        small = np.asarray(Image.open(given.picture).convert("RGB"))
    out = np.empty((side, side, 3), np.uint8)
    height, width = small.shape[:2]
    for y in range(0, side, height):
        for x in range(0, side, width):
            turned = small[:: 1 - 2 * (y // height % 2), :: 1 - 2 * (x // width % 2)]
            out[y : y + height, x : x + width] = turned[: side - y, : side - x]
    return out


def _model(given: argparse.Namespace, *, tiled: bool) -> Segmenter:
    info = describe(given.model[0])
    options = ModelConfig(name=given.model[0])
    tasks = info.tasks[:1]
    model: Segmenter = segmenter_class(info.family)(info, options, tasks)
    model.load(given.device)
    if not tiled:
        return model
    tiling = TilingConfig(size=given.tile, overlap=given.overlap)
    return Tiled(model, info, tasks, options=options, tiling=tiling)


def _timed(model: Segmenter, canvas: np.ndarray) -> tuple[Segmentation, float]:
    hw = (canvas.shape[0], canvas.shape[1])
    begin = time.perf_counter()
    (found,) = model.segment([Sample(RECORD, canvas, hw)])
    if found.failure is not None:
        raise SystemExit(found.failure.message)
    return found, time.perf_counter() - begin


def _run(given: argparse.Namespace, side: int, *, tiled: bool) -> dict[str, Any]:
    model = _model(given, tiled=tiled)
    canvas = _canvas(given, side)
    before = _peak()
    found, seconds = _timed(model, canvas)
    strings = sum(len(one.counts) for one in found.segments) / 1e6
    note = f"{len(found.segments)} segments, {strings:.1f} MB of run lengths"
    return {"seconds": seconds, "before": before, "note": note}


def _both(given: argparse.Namespace, side: int) -> dict[str, Any]:
    canvas = _canvas(given, side)
    answers, seconds = [], []
    for tiled in (False, True):
        model = _model(given, tiled=tiled)
        _timed(model, canvas[: given.tile + 1, : given.tile + 1])  # warm
        found, took = _timed(model, canvas)
        answers.append(found)
        seconds.append(took)
    whole, tiles = answers
    maps = [_label_map(each) for each in answers]
    strings = {(one.category_id, one.counts) for one in tiles.segments}
    table = iou([a.counts for a in whole.segments], [b.counts for b in tiles.segments], side, side)
    return {
        "ratio": seconds[1] / seconds[0],
        "pixels": float((maps[0] == maps[1]).mean()),
        "objects": len(whole.segments),
        "equal": float(np.mean([(a.category_id, a.counts) in strings for a in whole.segments])),
        "alike": float((table.max(1, initial=0) >= 0.9).mean()),
    }


def _label_map(found: Segmentation) -> np.ndarray:
    out = np.zeros((found.height, found.width), np.int32)
    for one in found.segments:
        out[decode(one.counts, *out.shape) > 0] = one.category_id
    return out


def _decode(given: argparse.Namespace, side: int) -> dict[str, Any]:
    kind = given.do[0]
    command = [sys.executable, "-m", "bench.tiling", "--do", "encode", str(side), "--model", kind]
    if given.picture is not None:
        command += ["--picture", str(given.picture)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    data = Path(json.loads(done.stdout)["file"]).read_bytes()
    Path(json.loads(done.stdout)["file"]).unlink()
    before = _peak()
    begin = time.perf_counter()
    sample = decode_image(data, RECORD, ImagesConfig())
    seconds = time.perf_counter() - begin
    if not isinstance(sample, Sample):
        raise SystemExit(sample.message)
    return {"seconds": seconds, "before": before, "note": f"a file of {len(data) / 1e6:.0f} MB"}


def _encode(given: argparse.Namespace, side: int) -> dict[str, Any]:
    kind = given.model[0]
    with tempfile.NamedTemporaryFile(suffix=f".{kind.lower()}", delete=False) as file:
        Image.fromarray(_canvas(given, side)).save(file, kind, **FORMATS[kind])
    return {"file": file.name}


WORK = {
    "both": _both,
    "whole": lambda given, side: _run(given, side, tiled=False),
    "tiled": lambda given, side: _run(given, side, tiled=True),
    "encode": _encode,
    **dict.fromkeys(FORMATS, _decode),
}
"""What a child does, by name."""


if __name__ == "__main__":
    main()
