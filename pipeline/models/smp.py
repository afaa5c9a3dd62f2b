"""The family `smp`: U-Net, FPN, DeepLabV3+, … of segmentation-models-pytorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.models.checkpoints.families import FAMILIES
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import EmptyWeights, fill, read_weights
from pipeline.models.checkpoints.smp import SIDECAR, SmpConfig, read_smp, smp_input_rule
from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.outputs import DenseOutput, logit
from pipeline.models.network.forward import Forward
from pipeline.models.network.segmenter import DenseFamily, TorchSegmenter
from pipeline.models.postprocess.merge import Outputs
from schemas.config.model import ModelConfig
from schemas.records import Task
from schemas.suggest import nearest


class SmpSegmenter(DenseFamily):
    """Labels pictures with a checkpoint of the family; see `families.Segmenter`.

    Args:
        info: The checkpoint.
        options: How it is run. `threshold` is the least probability of a category where the
            network says yes or no to each.
        tasks: "semantic".

    Raises:
        ValueError: The checkpoint's files are not understood.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self._info = info
        self._options = options
        self._config = read_smp(info.folder, info.config)
        weights = info.config.get("encoder_weights")
        self._rule = smp_input_rule(info.folder, self._config, encoder_weights=weights)
        self._shared = TorchSegmenter(info, options, tasks, rule=self._rule)

    def _net(self, device: str) -> _Net:
        net: Any = load_smp(self._info, self._config, allow_pickle=self._options.allow_pickle)
        stride = int(getattr(net.encoder, "output_stride", 1))
        if self._rule.padding.divisor % stride:
            raise ValueError(
                f"{self._info.folder}: the encoder takes sides that are multiples of {stride}: "
                f'set "divisor" in {SIDECAR}'
            )
        net.requires_grad_(False).to(device=device, memory_format=torch.channels_last)
        threshold = FAMILIES[self._info.family].thresholds.under(self._options).score
        return _Net(net, self._config, threshold, device, self._options)


class _Net:
    """Adds the output that yes-or-no networks lack: background, where no category is probable.

    A constant logit for it makes the best output of a pixel, and of a mix of pixels, the category
    whose probability is highest and above the threshold.
    """

    def __init__(
        self, net: Any, config: SmpConfig, threshold: float, device: str, options: ModelConfig
    ) -> None:
        # Held where float32 tells a logit from ±∞.
        least = min(max(threshold, 1e-6), 1 - 1e-6)
        self._background = logit(least) if config.adds_background else None
        self._forward = Forward(lambda x: _first(net(x)), device=device, options=options)

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        (logits,) = self._forward(pixels)
        if self._background is not None:
            logits = torch.nn.functional.pad(logits, (0, 0, 0, 0, 0, 1), value=self._background)
        return {"semantic": [DenseOutput(*each) for each in zip(logits, frames, strict=True)]}


def load_smp(info: ModelInfo, config: SmpConfig, *, allow_pickle: bool = False) -> torch.nn.Module:
    """The network of a checkpoint, float32, on the CPU, in eval mode; it answers with logits.

    Args:
        info: The checkpoint.
        config: Of `read_smp`.
        allow_pickle: Whether pickled weights may be loaded.

    Raises:
        ValueError: An unknown architecture or encoder, or weights that do not fit.
    """
    import segmentation_models_pytorch as smp

    known = {each.__name__: each for each in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    if config.architecture not in known:
        raise ValueError(
            f"{info.folder}: architecture {config.architecture!r} is not known"
            f"{nearest(config.architecture, known)}; known: {', '.join(known)}"
        )
    try:
        with EmptyWeights():
            net = known[config.architecture](encoder_weights=None, **config.arguments)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{info.folder}: config.json: {error}") from error
    state = read_weights(Path(info.folder), info.weights, allow_pickle=allow_pickle)
    fill(net, state, where=info.folder)
    return net.eval()


def _first(answer: Any) -> tuple[Tensor]:
    """Without the answer of an additional classifier of whole pictures."""
    return (answer[0] if isinstance(answer, tuple) else answer,)
