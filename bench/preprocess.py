"""When preprocessing helps: photographs made worse, labelled with and without a chain, and judged.

Each condition is a copy of the photographs of coco-photos, made worse in one way; each chain is a
[preprocess] section. The model is one of the DeepLabV3 folders of the test data. Figures are pixel
accuracy and the mean IoU of the categories that are there, as jobs.evaluate gives them. With
`--model prisma-unet-portrait` (see bench.preprocess_portrait) it is the IoU of people.

    python -m bench.preprocess --data FOLDER --condition dark --condition noisy
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.preprocess_portrait import PORTRAIT, Portrait
from pipeline.engine.run import label
from pipeline.evaluation.evaluate import evaluate
from schemas.config.job import JobConfig

Photo = np.ndarray
Noise = np.random.Generator

CONDITIONS: dict[str, Callable[[Photo, Noise], Photo]] = {
    "as they are": lambda photo, noise: photo,
    "dark": lambda photo, noise: photo * 0.15,
    "noisy": lambda photo, noise: photo + noise.normal(0, 35, photo.shape),
    "dark and noisy": lambda photo, noise: photo * 0.15 + noise.normal(0, 5, photo.shape),
    "salt and pepper": lambda photo, noise: _salted(photo, noise),
    "haze": lambda photo, noise: photo * 0.2 + 170,
    "orange cast": lambda photo, noise: photo * (1.0, 0.6, 0.25),
}
"""What happens to an RGB photo in 0…255; what leaves that range is clipped."""

_STRETCH = {"step": "auto_contrast", "cutoff": 0.5}
_TOGETHER = {"step": "percentile", "low": 0.5, "high": 99.5}
_CLAHE = {"step": "clahe"}
_MEANS = {"step": "nlmeans", "strength": 12, "strength_color": 12}
CHAINS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "auto_contrast": [_STRETCH],
    "percentile": [_TOGETHER],
    "gamma 0.45": [{"step": "gamma", "gamma": 0.45}],
    "clahe": [_CLAHE],
    "white_balance": [{"step": "white_balance"}],
    "median 3": [{"step": "median"}],
    "gaussian 1.5": [{"step": "gaussian", "sigma": 1.5}],
    "bilateral": [{"step": "bilateral", "sigma_color": 80}],
    "nlmeans": [_MEANS],
    "percentile, nlmeans": [_TOGETHER, _MEANS],
    "percentile, gaussian 1.5": [_TOGETHER, {"step": "gaussian", "sigma": 1.5}],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="deeplabv3-mobilenetv2-1.0-voc")
    parser.add_argument("--condition", action="append", choices=CONDITIONS)
    parser.add_argument("--chain", action="append", choices=CHAINS)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    model = str(args.data / "weights" / args.model)
    portrait = Portrait(args.data) if args.model == PORTRAIT else None
    print(f"{args.model}: pixel accuracy / {'IoU of people' if portrait else 'mean IoU'}")
    for condition in args.condition or CONDITIONS:
        with tempfile.TemporaryDirectory() as folder:
            _make_worse(args.data / "coco-photos", Path(folder) / "photos", condition)
            for chain in args.chain or CHAINS:
                if portrait:
                    accuracy, iou = portrait.judge(Path(folder) / "photos", CHAINS[chain])
                else:
                    figures = _judge(args.data, Path(folder), model, CHAINS[chain])
                    accuracy, iou = figures["pixel_accuracy"], figures["mean_iou_present"]
                print(f"{condition:15} {chain:24} {accuracy:.3f} / {iou:.3f}", flush=True)


def _make_worse(source: Path, folder: Path, condition: str) -> None:
    folder.mkdir()
    for number, path in enumerate(sorted((source / "images").iterdir())):
        data = np.frombuffer(path.read_bytes(), np.uint8)
        photo = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.float64)
        worse = CONDITIONS[condition](photo, np.random.default_rng(number))
        pixels = np.rint(np.clip(worse, 0, 255)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{path.stem}.png"), pixels[..., ::-1])


def _judge(data: Path, folder: Path, model: str, chain: list[dict[str, Any]]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=folder) as out:
        job = {
            "input": {"uri": str(folder / "photos")},
            "output": f"{out}/dataset",
            "model": {"name": model},
            "task": "semantic",
            "execution": {"inline": True},
            "preprocess": {"steps": chain},
        }
        label(JobConfig.parse(job), export=False, report=False)
        result = evaluate(
            dataset=f"{out}/dataset",
            ground_truth=str(data / "coco-photos" / "instances.json"),
            metrics=["miou"],
        )
    return result["overall"]["miou"]


def _salted(photo: Photo, noise: Noise) -> Photo:
    worse = photo.copy()
    chance = noise.random(photo.shape[:2])
    worse[chance < 0.03], worse[chance > 0.97] = 0, 255
    return worse


if __name__ == "__main__":
    main()
