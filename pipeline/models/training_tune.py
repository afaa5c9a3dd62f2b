"""Choice of the decoder's thresholds on the validation split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .training_check import score_maps
from .training_data import Picture
from .unet_decode import Decoding

_CHOICES: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("seed", (0.4, 0.6, 0.7)),
    ("touch", (0.5, 0.8)),
    ("interior", (0.4, 0.45, 0.55, 0.6)),
    ("min_area", (16, 32, 40)),
    ("min_score", (0.0, 0.7, 0.8, 0.85)),
)


def tune(maps: Sequence[npt.NDArray[np.float32]], pictures: Sequence[Picture]) -> Decoding:
    """One threshold at a time, in turn: the value with the best accuracy; ties keep the default.

    Args:
        maps: 3xHxW of each picture, from `picture_maps`.
        pictures: With the truth. Never the test split.
    """
    best = Decoding()
    top = _value(maps, pictures, best)
    for field, values in _CHOICES:
        for value in values:
            change: dict[str, Any] = {field: value}
            trial = replace(best, **change)
            reached = _value(maps, pictures, trial)
            if reached > top + 1e-6:
                best, top = trial, reached
    return best


def _value(
    maps: Sequence[npt.NDArray[np.float32]], pictures: Sequence[Picture], decoding: Decoding
) -> float:
    """Accuracy at IoU 0.5 plus the mean over 0.5…0.95, over all pictures together."""
    accuracy = score_maps(maps, pictures, decoding)["all"].accuracy()
    return accuracy[0] + sum(accuracy) / len(accuracy)
