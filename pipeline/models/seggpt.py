"""The family `seggpt`: SegGPT, shown pictures in which a category is marked; semantic.

The network sees an example above the picture and its mask above an empty one, and paints what is
missing. Each category is asked for by itself, with white for it and black for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.models.checkpoints.families import FAMILIES
from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import load_pretrained
from pipeline.models.grids.geometry import FitRule, Frame
from pipeline.models.grids.outputs import DenseOutput
from pipeline.models.network.fit import Fitter
from pipeline.models.network.forward import Forward
from pipeline.models.network.segmenter import DenseFamily, TorchSegmenter
from pipeline.models.postprocess.merge import Outputs
from pipeline.prompts.request import MaskExemplar
from schemas.config.model import ModelConfig
from schemas.records import Task


class SegGpt(DenseFamily):
    """Labels pictures with regions that are marked in others; see `families.Segmenter`.

    Args:
        info: The checkpoint; `info.asking` has the examples, `info.categories` what they mark.
        options: Of the job.
        tasks: "semantic" alone.

    Raises:
        ValueError: No examples, another task, or pictures go in at another size than the
            network's.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        if tasks != ("semantic",):
            raise ValueError(
                f"SegGPT tells regions apart, not things: the task is 'semantic', not "
                f"{', '.join(tasks)}"
            )
        exemplars = info.asking.mask_exemplars if info.asking else ()
        if not exemplars:
            raise ValueError(
                f"{info.name} has to be shown what to look for: give --exemplar "
                "IMAGE:@MASK=CATEGORY"
            )
        self._info = info
        self._options = options
        self._rule = read_fit_rule(preprocessor(info.folder))
        _check_size(info, self._rule)
        self._exemplars = [
            [each for each in exemplars if each.category == category.name]
            for category in info.categories
        ]
        ids = tuple(category.id for category in info.categories)
        outputs = replace(info, category_ids=(*ids, 0))  # the last is "nothing"
        self._shared = TorchSegmenter(outputs, options, tasks, rule=self._rule)
        self.prompts = {
            id_: own[0].name for id_, own in zip(ids, self._exemplars, strict=True) if len(own) == 1
        }

    def _net(self, device: str) -> ExampleMaps:
        from transformers import SegGptForImageSegmentation

        model: Any = load_pretrained(
            SegGptForImageSegmentation,
            self._info,
            device=device,
            allow_pickle=self._options.allow_pickle,
        )
        shown = [_shown(own, self._rule, device) for own in self._exemplars]
        return ExampleMaps(model, shown, self._rule, device=device, options=self._options)


class ExampleMaps:
    """One map a category, and one more: how much it takes to be anything.

    A category's map says how white the network painted it, 0…1. Several examples of it are seen
    together: what the picture's half attends to is their mean (the authors' feature ensemble).

    Args:
        model: Of transformers, on its device.
        shown: Of each category E×3×h×w pictures and their masks, as the network takes them.
        rule: How pictures go in.
        device: Where it runs.
        options: Of the job.
    """

    def __init__(
        self,
        model: Any,
        shown: Sequence[tuple[Tensor, Tensor]],
        rule: FitRule,
        *,
        device: str,
        options: ModelConfig,
    ) -> None:
        self._model = model
        self._shown = shown
        self._mean, self._std = (
            torch.tensor(values, device=device)[:, None, None]
            for values in ((rule.mean or (0.0,) * 3), (rule.std if rule.mean else (1.0,) * 3))
        )
        self._least = FAMILIES["seggpt"].thresholds.under(options).score
        self._nearest = options.compat == "transformers"
        self._forward = Forward(self._painted, device=device, options=options, model=model)

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        """One dense output of shares of white a picture."""
        (painted,) = self._forward(pixels)
        values = painted * self._std + self._mean
        values = values.clamp(0, 1) + 0 * values  # infinity becomes NaN, which is seen later
        maps = values.mean(2)
        maps = torch.cat((maps, torch.full_like(maps[:, :1], self._least)), 1)
        return {
            "semantic": [self._output(*pair) for pair in zip(maps, frames, strict=True)],
        }

    def _output(self, maps: Tensor, frame: Frame) -> DenseOutput:
        if self._nearest:  # transformers' own processor enlarges so
            maps = functional.interpolate(maps[None], frame.picture_hw, mode="nearest")[0]
            frame = Frame(frame.picture_hw, frame.picture_hw, frame.picture_hw)
        return DenseOutput(maps, frame, probabilities=True)

    def _painted(self, pixels: Tensor) -> tuple[Tensor]:
        """B×C×3×h×w, normalised as pictures are."""
        found = [self._category(pixels, *pair) for pair in self._shown]
        return (torch.stack(found, 1),)

    def _category(self, pixels: Tensor, pictures: Tensor, masks: Tensor) -> Tensor:
        pictures, masks = pictures.to(pixels.dtype), masks.to(pixels.dtype)
        if len(pictures) == 1:
            several = (len(pixels), -1, -1, -1)
            answer = self._model(pixels, pictures.expand(several), masks.expand(several))
            painted = answer.pred_masks
        else:
            together = (len(pictures), -1, -1, -1)
            painted = torch.cat(
                [
                    self._model(
                        one[None].expand(together), pictures, masks, feature_ensemble=True
                    ).pred_masks[:1]
                    for one in pixels
                ]
            )
        return painted[:, :, painted.shape[2] // 2 :]


def _shown(exemplars: Sequence[MaskExemplar], rule: FitRule, device: str) -> tuple[Tensor, Tensor]:
    """E×3×h×w float32 of the pictures and of their masks, white on black."""
    pictures = Fitter(rule, device)
    masks = Fitter(replace(rule, resample="nearest-exact", antialias=False), device)
    frames = pictures.frames([each.mask.shape for each in exemplars])
    white = [np.repeat(each.mask[..., None].astype(np.uint8) * 255, 3, 2) for each in exemplars]
    pairs = zip(exemplars, white, frames, strict=True)
    both = [(pictures(one.pixels, frame), masks(mask, frame)) for one, mask, frame in pairs]
    return torch.stack([one for one, _ in both]), torch.stack([mask for _, mask in both])


def _check_size(info: ModelInfo, rule: FitRule) -> None:
    """The network takes two pictures one above the other, of one size alone."""
    given = info.config.get("image_size", (896, 448))
    sides = tuple(given) if isinstance(given, list | tuple) else (given, given)
    wanted = (sides[0] // 2, sides[1])
    if rule.size.kind != "stretch" or (rule.size.height, rule.size.width) != wanted:
        raise ValueError(
            f"{info.folder}: the network takes pictures of {wanted[0]} × {wanted[1]} pixels, and "
            "the image processor's file makes others"
        )
