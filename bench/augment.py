"""Our augmentation against torchvision.transforms.v2: speed, and whether masks follow the picture.

Both do what a chain like our default does, each step on every picture: flip, rotation by up to 15
degrees, resized crop, brightness, contrast, saturation, hue. Pictures are 512×512 with 20 segments,
given as 20 masks or as one label map. CPU time of one thread.

    python -m bench.augment --pictures 100
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

from pipeline.augment.chain import AugmentChain
from pipeline.augment.scene import Scene
from schemas.config.augment import AugmentConfig

SIDE, SEGMENTS = 512, 20
GEOMETRY: list[dict[str, Any]] = [
    {"step": "flip", "horizontal": 0.5},
    {"step": "rotate", "angle": [-15, 15]},
    {"step": "resized_crop", "area": [0.5, 1.0]},
]
COLOUR: list[dict[str, Any]] = [
    {"step": "brightness"},
    {"step": "contrast"},
    {"step": "saturation"},
    {"step": "hue"},
]
LINEAR = InterpolationMode.BILINEAR


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pixels, labels = picture(0)
    masks = np.stack([labels == k for k in range(1, SEGMENTS + 1)])
    print("images a CPU second, geometry alone / with colours")
    for name, geometry_only in (("geometry", True), ("all", False)):
        ours = AugmentChain(AugmentConfig.parse({"steps": GEOMETRY + COLOUR * (not geometry_only)}))
        theirs = torchvision_chain(geometry_only=geometry_only)
        image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())
        stack = tv_tensors.Mask(torch.from_numpy(masks.astype(np.uint8)))
        plane = tv_tensors.Mask(torch.from_numpy(labels)[None])
        rng = np.random.default_rng(0)

        def map_of_ours(ours: AugmentChain = ours, rng: np.random.Generator = rng) -> None:
            draw = ours.draw(rng, (SIDE, SIDE))
            Scene(pixels, {"instance": (labels,)}).apply(draw)

        def masks_of_ours(ours: AugmentChain = ours, rng: np.random.Generator = rng) -> None:
            draw = ours.draw(rng, (SIDE, SIDE))
            draw.picture(pixels)
            for mask in masks:
                draw.labels(mask.view(np.uint8))

        rates = {
            "ours, label map": rate(map_of_ours, options.pictures),
            "ours, 20 masks": rate(masks_of_ours, options.pictures),
            "torchvision, label map": rate(
                lambda theirs=theirs, image=image, plane=plane: theirs(image, plane),
                options.pictures,
            ),
            "torchvision, 20 masks": rate(
                lambda theirs=theirs, image=image, stack=stack: theirs(image, stack),
                options.pictures,
            ),
        }
        for what, value in rates.items():
            print(f"  {name:<9} {what:<24} {value:7.1f}")
    print("share of pixels where a picture that is its own mask and the mask differ")
    for what, value in (("ours", ours_disagrees()), ("torchvision", torchvision_disagrees())):
        print(f"  {what:<12} all {value[0]:.4%}   2 pixels off every edge {value[1]:.4%}")


def picture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth random picture and a label map of 20 discs."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    labels = np.zeros((SIDE, SIDE), np.int32)
    for label in range(1, SEGMENTS + 1):
        x, y, r = rng.integers((40, 40, 15), (SIDE - 40, SIDE - 40, 45)).tolist()
        cv2.circle(labels, (x, y), r, label, -1)
    return cv2.GaussianBlur(noise, (0, 0), 3), labels


def torchvision_chain(*, geometry_only: bool) -> v2.Compose:
    """The same steps; linear interpolation for pictures, as ours."""
    geometry: list[Any] = [
        v2.RandomHorizontalFlip(0.5),
        v2.RandomRotation(15, interpolation=LINEAR),
        v2.RandomResizedCrop(SIDE, scale=(0.5, 1.0), ratio=(0.75, 1.3333), interpolation=LINEAR),
    ]
    colour = v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=10 / 360)
    return v2.Compose(geometry if geometry_only else [*geometry, colour])


def rate(act: Callable[[], Any], count: int) -> float:
    """Calls a second of CPU time, after three to warm up."""
    for _ in range(3):
        act()
    started = time.process_time()
    for _ in range(count):
        act()
    return count / (time.process_time() - started)


def differs(shown: np.ndarray, moved: np.ndarray) -> tuple[float, float]:
    """Share of pixels that differ: of all, and of those that no edge is near."""
    kernel = np.ones((5, 5), np.uint8)
    plain = cv2.dilate(moved, kernel) == cv2.erode(moved, kernel)
    wrong = (shown > 127) != (moved > 0)
    return float(wrong.mean()), float(wrong[plain].mean())


def ours_disagrees() -> tuple[float, float]:
    chain, rng = AugmentChain(AugmentConfig.parse({"steps": GEOMETRY})), np.random.default_rng(0)
    found = []
    for seed in range(20):
        mask = (picture(seed)[1] > 0).astype(np.uint8)
        draw = chain.draw(rng, (SIDE, SIDE))
        shown = draw.picture(np.repeat(mask[..., None] * np.uint8(255), 3, 2))
        found.append(differs(shown[..., 0], draw.labels(mask)))
    return tuple(np.mean(found, axis=0).tolist())


def torchvision_disagrees() -> tuple[float, float]:
    chain = torchvision_chain(geometry_only=True)
    found = []
    for seed in range(20):
        mask = torch.from_numpy((picture(seed)[1] > 0).astype(np.uint8))[None]
        shown, moved = chain(tv_tensors.Image(mask.repeat(3, 1, 1) * 255), tv_tensors.Mask(mask))
        found.append(differs(shown[0].numpy(), moved[0].numpy()))
    return tuple(np.mean(found, axis=0).tolist())


if __name__ == "__main__":
    main()
