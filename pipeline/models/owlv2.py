"""The family `owlv2`: OWLv2 and OWL-ViT find boxes by text, a SAM masks.

Every prompt is a text of its own and is embedded once, when the weights are loaded; a picture's
features are compared with all of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import load_pretrained
from pipeline.models.grids.finite import check_finite
from pipeline.models.grids.geometry import Frame
from pipeline.models.network.forward import Forward
from pipeline.models.network.segmenter import NetworkFamily
from pipeline.models.network.weights import Cast, cast_weights
from pipeline.models.text.detections import Detections
from pipeline.models.text.outlines import masks_beside
from pipeline.models.text.request import TextRequest, Texts, read_asking, read_texts
from pipeline.models.text.segmenter import TextSegmenter
from schemas.config.model import ModelConfig
from schemas.records import Task


class Owlv2(NetworkFamily):
    """Labels pictures with what texts ask for; see `families.Segmenter`.

    Args:
        info: The detector; `info.partner` is the SAM, `info.asking` the prompts.
        options: Of the job.
        tasks: "instance", or "panoptic" where conflicts leave no overlap.

    Raises:
        ValueError: No SAM, no prompts, a prompt that is too long, a file is missing.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self._info = info
        self._options = options
        self._asking = read_asking(info, options)
        self._texts = read_texts(info, self._asking, longest=16)
        self._shared = TextSegmenter(
            self._asking,
            options,
            tasks,
            rule=read_fit_rule(preprocessor(info.folder)),
            outliner=masks_beside(info, options),
        )

    def _net(self, device: str) -> PatchFinder:
        import transformers

        first = self._info.config.get("model_type") == "owlvit"
        model: Any = load_pretrained(
            transformers.OwlViTForObjectDetection
            if first
            else transformers.Owlv2ForObjectDetection,
            self._info,
            device=device,
            allow_pickle=self._options.allow_pickle,
        )
        return PatchFinder(model, self._texts, self._asking, device=device, options=self._options)


class PatchFinder:
    """One box a patch of the picture, and its score for each prompt.

    Args:
        model: Of transformers, on its device.
        texts: The prompts.
        asking: What is looked for.
        device: Where it runs.
        options: Of the job.
    """

    def __init__(
        self, model: Any, texts: Texts, asking: TextRequest, *, device: str, options: ModelConfig
    ) -> None:
        self._asking = asking
        with torch.inference_mode():
            owl = model.owlvit if hasattr(model, "owlvit") else model.owlv2
            tokens, mask = texts.on(device)
            read = owl.text_model(input_ids=tokens, attention_mask=mask, return_dict=True)
            queries = owl.text_projection(read.pooler_output)
            self._queries = queries / queries.norm(dim=-1, keepdim=True)
        self._model = model
        self._forward = Forward(
            self._look, device=device, options=options, model=model, cast=cast_but_scores
        )

    def find(self, pixels: Tensor, frames: Sequence[Frame]) -> list[Detections]:
        """See `Finder`."""
        boxes, logits = self._forward(pixels)
        check_finite(boxes, logits)
        scores = logits.sigmoid()
        keep = (scores.amax(-1) >= self._asking.least).nonzero()
        picture, patch = keep.unbind(1)
        chosen = (picture[:, None].float(), boxes[picture, patch], scores[picture, patch])
        found = torch.cat(chosen, 1).cpu().double().numpy()  # one copy
        place = found[:, 0].astype(np.int64)
        return [
            Detections(_boxes(rows[:, 1:5], frame), rows[:, 5:])
            for index, frame in enumerate(frames)
            for rows in (found[place == index],)
        ]

    def _look(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Boxes B×n×4 (centre and size, shares of the input) and logits B×n×p."""
        (features, *_) = self._model.image_embedder(pixel_values=pixels)
        flat = features.flatten(1, 2)
        queries = self._queries.expand(len(pixels), -1, -1)
        logits = self._model.class_predictor(flat, queries)[0]
        return self._model.box_predictor(flat, features), logits


def cast_but_scores(model: Any, dtype: torch.dtype) -> None:
    """Casts the weights of an OWLv2 or OWL-ViT; what gives scores and boxes stays float32.

    Args:
        model: Changed in place.
        dtype: bfloat16 or float16.
    """
    bias, classes, boxes = model.box_bias.clone(), model.class_head, model.box_head
    last = {"logit_shift": classes, "logit_scale": classes, "dense2": boxes}
    cast_weights(model, dtype, keep=[getattr(head, name) for name, head in last.items()])
    for name, head in last.items():
        setattr(head, name, Cast(getattr(head, name), torch.float32))
    classes.dense0 = _Widened(classes.dense0)
    model.box_bias = bias


class _Widened(nn.Module):
    """A part whose answer is compared in float32.

    Args:
        inner: Takes one tensor and gives one.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, given: Tensor) -> Tensor:
        return self.inner(given).float()


def _boxes(shares: npt.NDArray[np.float64], frame: Frame) -> npt.NDArray[np.float64]:
    """n×4 left, top, right, bottom in the picture, pixels, held inside it.

    Args:
        shares: n×4, centre and size in shares of the input.
        frame: Where the picture lies in it. OWLv2's pictures are filled up to squares before they
            are resized, so that a share is one of the longer side, whatever the input rounds to.
    """
    height, width = frame.picture_hw
    whole = (width, height)
    if frame.content_hw != frame.input_hw:
        whole = (max(whole), max(whole))
    centre, half = shares[:, :2] * whole, shares[:, 2:] * whole / 2
    corners = np.concatenate((centre - half, centre + half), 1)
    return corners.clip(0, (width, height, width, height))
