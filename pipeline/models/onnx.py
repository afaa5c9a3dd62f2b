"""The family `onnx`: any network as an ONNX graph, through onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.models.checkpoints.families import FAMILIES
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.onnx_format import BOXES, onnx_input_rule
from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.outputs import BoxOutput, DenseOutput, logit
from pipeline.models.network.segmenter import DenseFamily, TorchSegmenter
from pipeline.models.postprocess.merge import Outputs
from schemas.config.model import ModelConfig
from schemas.records import Task


class OnnxSegmenter(DenseFamily):
    """Labels pictures with an ONNX graph; see `families.Segmenter`.

    Args:
        info: The graph's description; see `onnx_format`.
        options: How it is run; `dtype` is the graph's own.
        tasks: "semantic" or "instance".

    Raises:
        ValueError: onnxruntime is not installed, or `maskmill.json` is not understood.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError(
                f"{info.name} is an ONNX graph, which onnxruntime runs: pip install "
                "'maskmill[onnx]' (on a GPU onnxruntime-gpu)"
            ) from error
        self._runtime: Any = onnxruntime
        self._info = info
        self._threshold = FAMILIES[info.family].thresholds.under(options).score
        self._shared = TorchSegmenter(info, options, tasks, rule=onnx_input_rule(info.config))

    def _net(self, device: str) -> MapNet | BoxNet:
        session = self._session(device)
        config = self._info.config
        outputs = len(self._info.category_ids)
        if config["tasks"] == ["instance"]:
            return BoxNet(session, config.get("outputs", {}), outputs, device)
        return MapNet(session, str(config["output"]), outputs, self._threshold, device)

    def _session(self, device: str) -> Any:
        """The loaded graph.

        Raises:
            ValueError: It is damaged, the device has no provider, or it takes other pictures.
        """
        options = self._runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        where = torch.device(device)
        providers: list[Any] = ["CPUExecutionProvider"]
        if where.type == "cuda":
            if "CUDAExecutionProvider" not in self._runtime.get_available_providers():
                raise ValueError(
                    "model.device: this onnxruntime runs on CPUs alone: install onnxruntime-gpu, "
                    "or set model.device = 'cpu'"
                )
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": where.index or 0}))
        path = Path(self._info.folder) / self._info.weights[0]
        try:
            session = self._runtime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:
            raise ValueError(f"{path}: {' '.join(str(error).split())[:300]}") from error
        shape = session.get_inputs()[0].shape
        size = self._shared.fitter.rule.size
        wanted = (3, size.height, size.width)
        fits = len(shape) == 4 and all(
            not isinstance(side, int) or side == own
            for side, own in zip(shape[1:], wanted, strict=True)
        )
        if not fits:
            raise ValueError(f"{path} takes {shape}, and maskmill.json says {list(wanted)}")
        return session


class _Graph:
    """A session: tensors in, tensors out, as many pictures at once as it takes."""

    def __init__(self, session: Any, names: Sequence[str], device: str) -> None:
        self._session, self._names, self._device = session, list(names), device
        entry = session.get_inputs()[0]
        self._input = entry.name
        self.alone = isinstance(entry.shape[0], int)

    def __call__(self, pixels: Tensor) -> list[list[Tensor]]:
        """B×3×h×w → the outputs of each run: of each picture, or of all at once."""
        given = pixels.cpu().numpy()
        parts = np.split(given, len(given)) if self.alone else [given]
        return [
            [
                torch.from_numpy(np.ascontiguousarray(value)).to(self._device)
                for value in self._session.run(self._names, {self._input: part})
            ]
            for part in parts
        ]


_ROUNDING = 1e-2
"""How far probabilities of half precision may lie outside 0…1."""


class MapNet:
    """One map a category.

    Args:
        session: Of onnxruntime.
        output: How values are meant, see `onnx_format.OUTPUTS`.
        outputs: Categories, the background of yes-or-no graphs included.
        threshold: Least probability of a category that is yes or no.
        device: Where the merge runs.
    """

    def __init__(
        self, session: Any, output: str, outputs: int, threshold: float, device: str
    ) -> None:
        self._graph = _Graph(session, [session.get_outputs()[0].name], device)
        self._output, self._outputs, self._threshold = output, outputs, threshold

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        """One dense output a picture.

        Raises:
            ValueError: The graph has another number of outputs than there are categories, or
                answers what is no probability though maskmill.json says so.
        """
        maps = torch.cat([values[0] for values in self._graph(pixels)]).float()
        probable = self._output in ("softmax", "sigmoid")
        if probable:
            _check_shares(maps, f"output is {self._output!r}")
        if self._output.startswith("sigmoid"):
            # A constant beside them: the best category of a pixel is the one above the threshold.
            rest = self._threshold if probable else logit(min(max(self._threshold, 1e-6), 1 - 1e-6))
            maps = torch.nn.functional.pad(maps, (0, 0, 0, 0, 0, 1), value=rest)
        if maps.ndim != 4 or maps.shape[1] != self._outputs:
            raise ValueError(
                f"the graph answers {list(maps.shape)}, background included; maskmill.json has "
                f"{self._outputs} category_ids"
            )
        rows = zip(maps, frames, strict=True)
        return {"semantic": [DenseOutput(*row, probabilities=probable) for row in rows]}


def _check_shares(values: Tensor, said: str) -> None:
    """Logits that are taken for probabilities would give masks of another threshold.

    Raises:
        ValueError: Values lie outside 0…1 by more than rounding; NaN is seen elsewhere.
    """
    if bool(((values < -_ROUNDING) | (values > 1 + _ROUNDING)).any()):
        low, high = (float(each) for each in values.aminmax())
        raise ValueError(
            f"the graph answers with values from {low:.3g} to {high:.3g}, which are no "
            f"probabilities; {said}"
        )


class BoxNet:
    """Boxes with a small mask each.

    Args:
        session: Of onnxruntime.
        names: Key of `onnx_format.BOXES` → name of the graph's output, where it is another.
        outputs: Categories that it can name.
        device: Where the merge runs.
    """

    def __init__(self, session: Any, names: Any, outputs: int, device: str) -> None:
        own = [str(names.get(key, key)) for key in BOXES]
        known = {entry.name for entry in session.get_outputs()}
        if missing := sorted(set(own) - known):
            raise ValueError(f"the graph has no output {missing[0]!r}, only {sorted(known)}")
        self._outputs = outputs
        self._graph = _Graph(session, own, device)
        self._graph.alone = True  # detections of several pictures cannot be told apart

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        """One box output a picture.

        Raises:
            ValueError: A detection of a category that maskmill.json does not have, other numbers
                of boxes than of labels, scores or masks, or scores and masks that are not in 0…1.
        """
        found = []
        for values, frame in zip(self._graph(pixels), frames, strict=True):
            boxes, labels, scores, masks = values
            side = masks.shape[-2:]
            boxes, masks = boxes.reshape(-1, 4).float(), masks.reshape(-1, *side).float()
            labels, scores = labels.reshape(-1).long(), scores.reshape(-1).float()
            counts = [len(each) for each in (boxes, labels, scores, masks)]
            if len(set(counts)) > 1:
                raise ValueError(f"the graph answers with {counts} {', '.join(BOXES)}")
            strange = (labels < 0) | (labels >= self._outputs)
            if bool((strange & (scores > 0)).any()):
                number = int(labels[strange & (scores > 0)][0])
                raise ValueError(
                    f"the graph answers with category {number}; maskmill.json has "
                    f"{self._outputs} category_ids, counted from 0"
                )
            real = ~strange  # rows without a score fill up to the graph's own number
            scored = real & (scores != -1)
            for name, each in (("scores", scores[scored]), ("masks", masks[scored])):
                _check_shares(each, f"{name} are probabilities")
            found.append(
                BoxOutput(
                    boxes_xyxy=boxes[real],
                    labels=labels[real],
                    scores=scores[real],
                    mask_probs=masks[real],
                    frame=frame,
                )
            )
        return {"instance": found}
