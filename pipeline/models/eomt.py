"""The family `eomt`: EoMT and EoMT-DINOv3, plain vision transformers with queries in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import load_pretrained
from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.outputs import DenseOutput
from pipeline.models.network.forward import Forward
from pipeline.models.network.query_net import QueryNet, masks_of
from pipeline.models.network.segmenter import DenseFamily, TorchSegmenter
from pipeline.models.postprocess.merge import Outputs
from schemas.config.model import ModelConfig
from schemas.records import Task


class EomtSegmenter(DenseFamily):
    """Labels pictures with an EoMT; see `families.Segmenter`.

    Checkpoints for semantic segmentation look at square windows along a picture's longer side
    and average what they say where windows overlap; the others at the whole picture, padded.

    Args:
        info: The checkpoint.
        options: Of the job.
        tasks: All of them are answered from one forward pass.

    Raises:
        ValueError: The checkpoint does not say how pictures go in, or answers no such task.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        settings = preprocessor(info.folder)
        self._windows = bool(settings.get("do_split_image"))
        if self._windows and set(tasks) != {"semantic"}:
            raise ValueError("an EoMT that looks through windows answers the task semantic alone")
        self._side = int(info.config["image_size"])
        if options.tta.scales != (1.0,):
            raise ValueError(
                f"model.tta.scales: an EoMT takes inputs of {self._side} × {self._side} alone"
            )
        self._info = info
        self._options = options
        rule = read_fit_rule(settings, split=self._windows)
        self._shared = TorchSegmenter(info, options, tasks, rule=rule)

    def _net(self, device: str) -> QueryNet | WindowNet:
        from transformers import AutoModelForUniversalSegmentation

        model: Any = load_pretrained(
            AutoModelForUniversalSegmentation,
            self._info,
            device=device,
            allow_pickle=self._options.allow_pickle,
        )
        # Training leaves attention to masks on or off; in between it would be drawn at random. As
        # numbers, not as a tensor that the model would ask layer by layer.
        probabilities = [float(each > 0.5) for each in model.attn_mask_probs]
        del model.attn_mask_probs
        model.attn_mask_probs = probabilities
        if self._windows:
            return WindowNet(model, self._side, device=device, options=self._options)
        return eomt_net(model, device=device, options=self._options)


def eomt_net(model: Any, *, device: str, options: ModelConfig) -> QueryNet:
    """An EoMT that looks at whole pictures.

    Args:
        model: Of transformers, on the device; `attn_mask_probs` are numbers.
        device: Where it is.
        options: Of the job.
    """
    return QueryNet(model, device=device, options=options, function=_function(model, device))


def _function(model: Any, device: str) -> Callable[[Tensor], Any]:
    """What is called in place of the model: on a GPU an EoMT masks its own way.

    Without masks, as EoMTs are published, transformers' own way does the same.
    """
    known = type(model).__name__ == "EomtForUniversalSegmentation"
    if not known or torch.device(device).type != "cuda" or not any(model.attn_mask_probs):
        return model
    return lambda pixels: masked_answer(model, pixels)


def masked_answer(model: Any, pixels: Tensor) -> SimpleNamespace:
    """An EoMT's answer, masks in between drawn at the size of the patches.

    Transformers draws them four times as large and shrinks them, then writes a float mask for each
    head. Shrinking is linear and comes first, and one bool mask serves all heads.

    Args:
        model: `EomtForUniversalSegmentation`.
        pixels: B×3×side×side.
    """
    hidden = model.embeddings(pixels)
    queries, probabilities = model.config.num_queries, model.attn_mask_probs
    first = len(model.layers) - len(probabilities)
    start = queries + model.embeddings.num_prefix_tokens
    open_to: Tensor | None = None
    for index, layer in enumerate(model.layers):
        if index == first:
            hidden = torch.cat((model.query.weight.expand(len(hidden), -1, -1), hidden), 1)
        if index >= first and probabilities[index - first] > 0:
            normed = model.layernorm(hidden)
            grid = normed[:, start:].transpose(1, 2).unflatten(2, model.grid_size)
            features = model.upscale_block(grid)
            small = interpolate(features, size=model.grid_size, mode="bilinear")
            seen = masks_of(model.mask_head(normed[:, :queries]), small).flatten(2) > 0
            tokens = hidden.shape[1]
            shape = len(hidden), 1, tokens, tokens
            open_to = torch.ones(shape, dtype=torch.bool, device=hidden.device)
            open_to[:, 0, :queries, start:] = seen
        hidden = layer(hidden, open_to)
    masks, classes = model.predict(model.layernorm(hidden))
    return SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)


class WindowNet:
    """A semantic EoMT: square windows, their maps averaged where they overlap.

    Args:
        model: Of transformers, on the device.
        side: Of a window, pixels.
        device: Where the model is.
        options: Of the job.
    """

    def __init__(self, model: Any, side: int, *, device: str, options: ModelConfig) -> None:
        self._model = _function(model, device)
        self._side = side
        self._forward = Forward(self._queries, device=device, options=options, model=model)

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        """One dense output a picture, of the input's size; its values are sums of probabilities.

        Args:
            pixels: B×3×h×w, the shorter side that of a window.
            frames: B frames.
        """
        axis = 2 if pixels.shape[2] > pixels.shape[3] else 3
        starts = window_starts(pixels.shape[axis], self._side)
        windows = torch.cat([pixels.narrow(axis, start, self._side) for start in starts])
        classes, masks = (
            answer.unflatten(0, (len(starts), -1)) for answer in self._forward(windows)
        )
        total = pixels.new_zeros((len(frames), classes.shape[-1] - 1, *pixels.shape[2:]))
        times = pixels.new_zeros(pixels.shape[axis])
        for number, start in enumerate(starts):
            times[start : start + self._side] += 1
            for index in range(len(frames)):
                window = self._probabilities(classes[number, index], masks[number, index])
                total[index].narrow(axis - 1, start, self._side).add_(window)
        total /= times[:, None] if axis == 2 else times
        return {
            "semantic": [
                DenseOutput(maps, frame, probabilities=True)
                for maps, frame in zip(total, frames, strict=True)
            ]
        }

    def _probabilities(self, class_logits: Tensor, mask_logits: Tensor) -> Tensor:
        """C×side×side of one window, from Q×(C+1) and Q×h×w."""
        hw = (self._side, self._side)
        masks = interpolate(mask_logits[None], size=hw, mode="bilinear")[0].sigmoid()
        return torch.einsum("qc,qhw->chw", class_logits.softmax(-1)[:, :-1], masks)

    def _queries(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        answer = self._model(pixels)
        return answer.class_queries_logits, answer.masks_queries_logits


def window_starts(length: int, side: int) -> list[int]:
    """Where windows begin: as few as cover the length, their overlaps equal.

    Args:
        length: Of the longer side, pixels, at least `side`.
        side: Of a window, pixels.
    """
    gaps = -(-length // side) - 1
    return [number * (length - side) // max(gaps, 1) for number in range(gaps + 1)]
