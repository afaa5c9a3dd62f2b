"""EmbedderInput: what an embedder's preprocessor_config.json says of its input. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .fit_rule import Filter
from .preprocessor import preprocessor, read_fit_rule


@dataclass(frozen=True, slots=True)
class EmbedderInput:
    """A square of normalised pixels.

    Attributes:
        side: Pixels.
        resample: The filter, as torchvision names it.
        mean: Of each channel in 0…1.
        std: Of each channel.
    """

    side: int
    resample: Filter
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_embedder_input(folder: str) -> EmbedderInput:
    """The input of a checkpoint.

    Crops of masks are square, so that resizing the shorter side and cutting out the centre, as
    CLIP's processor does it, is one resize to the size of the cut.

    Raises:
        ValueError: No such file, an unknown processor, or an input that is no square.
    """
    settings = preprocessor(folder)
    rule = read_fit_rule(settings)
    cut = settings.get("do_center_crop", True) and settings.get("crop_size")
    height, width = _sides(cut) if cut else (rule.size.height, rule.size.width)
    if not cut and rule.size.kind == "shortest":
        width = height
    if height != width or height < 1:
        raise ValueError(f"{folder}: an embedder's input is a square, not {width} × {height}")
    mean = rule.mean or (0.0, 0.0, 0.0)
    return EmbedderInput(height, rule.resample, mean, rule.std if rule.mean else (1.0, 1.0, 1.0))


def _sides(value: Any) -> tuple[int, int]:
    if isinstance(value, Mapping):
        return int(value["height"]), int(value["width"])
    return int(value), int(value)
