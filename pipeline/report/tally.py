"""Counts and histograms of a whole dataset, one part at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.copy_rows import PARENT
from schemas.categories import Categories
from schemas.records import Status

from .histogram import LinearHistogram, LogHistogram, ScoreHistogram, Spread

IMAGE_COLUMNS = ("image_id", "file_name", "status", "error_code", "error_message", PARENT)
ANNOTATION_COLUMNS = ("image_id", "category_id", "area", "score")


class Tally:
    """What the report says about all images, whether shown or not.

    Background is counted as a category but enters no histogram: the remainder of a picture would
    drown the objects.
    """

    def __init__(self, categories: Categories) -> None:
        self._background = [item.id for item in categories if item.is_background]
        self._per_category = {
            item.id: {"segments": 0, "images": 0, "area": Spread(), "score": Spread()}
            for item in categories
        }
        self._area = Spread(), LogHistogram(), LinearHistogram()
        self._score = Spread(), ScoreHistogram()
        self._objects = Spread(), LinearHistogram()
        self.unscored = 0

    def add(self, images: pa.Table, annotations: pa.Table) -> None:
        """Takes in one part.

        Args:
            images: With the columns `IMAGE_COLUMNS`.
            annotations: Of the same images, with the columns `ANNOTATION_COLUMNS`.
        """
        image = annotations["image_id"].to_numpy()
        category = annotations["category_id"].to_numpy()
        area = annotations["area"].to_numpy()
        score = annotations["score"].to_numpy(zero_copy_only=False).astype(np.float64)
        for key in np.unique(category).tolist():
            mine = category == key
            entry = self._per_category[key]
            entry["segments"] += int(mine.sum())
            entry["images"] += len(np.unique(image[mine]))
            entry["area"].add(area[mine])
            entry["score"].add(_known(score[mine]))
        objects = ~np.isin(category, self._background)
        for stream in self._area:
            stream.add(area[objects])
        scores = _known(score[objects])
        self.unscored += int(objects.sum()) - len(scores)
        for stream in self._score:
            stream.add(scores)
        seen = np.isin(images["status"].to_numpy(zero_copy_only=False), _LOOKED_AT)
        per_image = np.unique(image[objects], return_counts=True)[1]
        nothing = int(seen.sum()) - len(per_image)
        for stream in self._objects:
            stream.add(np.concatenate((per_image, np.zeros(max(nothing, 0), np.int64))))

    def category(self, category_id: int) -> dict[str, Any]:
        """segments, images, area and score (`Spread.to_json`) of one category."""
        entry = self._per_category[category_id]
        return {
            "segments": entry["segments"],
            "images": entry["images"],
            "area": entry["area"].to_json(),
            "score": entry["score"].to_json(),
        }

    def histograms(self) -> dict[str, Any]:
        """What the page draws: area (two scales), score, objects an image."""
        return {
            "area": {
                "spread": self._area[0].to_json(),
                "log": self._area[1].to_json(),
                "linear": self._area[2].to_json(),
            },
            "score": {"spread": self._score[0].to_json(), "linear": self._score[1].to_json()},
            "objects": {"spread": self._objects[0].to_json(), "linear": self._objects[1].to_json()},
        }


_LOOKED_AT = [str(Status.OK), str(Status.EMPTY)]


def _known(score: np.ndarray) -> np.ndarray:
    return score[~np.isnan(score)]
