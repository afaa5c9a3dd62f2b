"""The family `videomt`: VidEoMT of transformers, on single pictures."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import load_pretrained
from pipeline.models.network.query_net import QueryNet
from pipeline.models.network.segmenter import DenseFamily, TorchSegmenter
from schemas.config.model import ModelConfig
from schemas.records import Task


class VideomtSegmenter(DenseFamily):
    """Labels pictures with a VidEoMT, each a video of one frame; see `families.Segmenter`.

    Nothing is carried from one picture to the next: a picture's labels are its own.

    Args:
        info: The checkpoint.
        options: Of the job.
        tasks: All of them are answered from one forward pass.

    Raises:
        ValueError: The checkpoint does not say how pictures go in.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        if options.tta.scales != (1.0,):
            side = info.config.get("image_size")
            raise ValueError(f"model.tta.scales: a VidEoMT takes inputs of {side} × {side} alone")
        self._info = info
        self._options = options
        rule = read_fit_rule(preprocessor(info.folder))
        self._shared = TorchSegmenter(info, options, tasks, rule=rule)

    def _net(self, device: str) -> QueryNet:
        from transformers import VideomtForUniversalSegmentation

        model: Any = load_pretrained(
            VideomtForUniversalSegmentation,
            self._info,
            device=device,
            allow_pickle=self._options.allow_pickle,
        )

        def one_frame(pixels: Tensor) -> Any:
            return model(pixel_values_videos=pixels[:, None])

        return QueryNet(one_frame, device=device, options=self._options)
