"""The network of bench.preprocess --model prisma-unet-portrait: people or not.

It is a real U-Net as an ONNX file (3×256×256 RGB in 0…1 → 1×256×256 probabilities of a person) that
no family of ours loads, so the chain is applied here and the network run by onnxruntime, which has
to be installed for it. It was made for portraits: only photographs count that people fill in part.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.images.preprocess import decode_through, make_chain
from pipeline.masks import codec
from pipeline.storage.storage import Storage
from schemas.config.job import ImagesConfig
from schemas.config.preprocess import PreprocessConfig
from schemas.records import ImageRecord, Sample

PORTRAIT = "prisma-unet-portrait"
"""Folder of the network."""

PERSON = 1
"""COCO's category."""

SHARE = 0.03
"""Of a photograph that people cover at least."""


class Portrait:
    """Judges a chain by how well people are found.

    Args:
        data: Folder of the test data.
    """

    def __init__(self, data: Path) -> None:
        import onnxruntime  # pyright: ignore[reportMissingImports]

        path = data / "weights" / PORTRAIT / "model.onnx"
        self._session = onnxruntime.InferenceSession(str(path))
        self._input = self._session.get_inputs()[0]
        truth = json.loads((data / "coco-photos" / "instances.json").read_text())
        self._sizes = {
            Path(one["file_name"]).stem: (one["height"], one["width"], one["id"])
            for one in truth["images"]
        }
        self._people: dict[int, list[Any]] = {}
        for one in truth["annotations"]:
            if one["category_id"] == PERSON:
                self._people.setdefault(one["image_id"], []).append(one["segmentation"])

    def judge(self, photos: Path, steps: list[dict[str, Any]]) -> tuple[float, float]:
        """Pixel accuracy and the IoU of "person" over the photographs that count."""
        images = ImagesConfig()
        config = PreprocessConfig.model_validate({"steps": steps})
        chain = make_chain(config, images, Storage())
        both = either = right = total = 0
        for path in sorted(photos.iterdir()):
            height, width, image_id = self._sizes[path.stem]
            shown = np.zeros((height, width), bool)
            for segmentation in self._people.get(image_id, []):
                counts = codec.from_coco(segmentation, height, width)
                shown |= codec.decode(counts, height, width) > 0
            if shown.mean() < SHARE:
                continue
            sample = decode_through(chain, path.read_bytes(), ImageRecord("", ""), images)
            if not isinstance(sample, Sample):
                raise ValueError(f"{path}: {sample.message}")
            found = self._found(sample.pixels)
            both += int((found & shown).sum())
            either += int((found | shown).sum())
            right += int((found == shown).sum())
            total += found.size
        return right / total, both / either

    def _found(self, pixels: np.ndarray) -> np.ndarray:
        small = cv2.resize(pixels, (256, 256), interpolation=cv2.INTER_AREA)
        given = small.astype(np.float32).transpose(2, 0, 1)[None] / 255
        (answer,) = self._session.run(None, {self._input.name: given})
        height, width = pixels.shape[:2]
        return cv2.resize(np.squeeze(answer), (width, height)) > 0.5
