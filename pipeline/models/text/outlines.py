"""BoxMasks: a SAM beside a detector. One mask a box, the picture encoded once."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.grids.geometry import Frame, Hw
from pipeline.models.grids.outputs import logit
from pipeline.models.network.fit import Fitter
from pipeline.models.sam_core.checkpoint import SamCheckpoint, open_sam
from pipeline.models.sam_core.load import encode_images, load_sam
from pipeline.models.sam_core.masks import Enlarging
from pipeline.models.sam_core.net import SamNet
from pipeline.models.sam_core.prompted import masks_of_prompts
from schemas.config.model import ModelConfig
from schemas.records import Prompt, Sample, Segment

from .detections import Detections
from .phrases import Choice


def masks_beside(info: ModelInfo, options: ModelConfig) -> BoxMasks:
    """The mask model that a detector was named with.

    Args:
        info: Of the detector; `info.partner` is the SAM.
        options: Of the job.

    Raises:
        ValueError: There is none, and boxes are no masks; or it is no SAM.
    """
    if info.partner is None:
        raise ValueError(
            f"{info.name} finds boxes, no masks: name a model that turns boxes into masks, as in "
            f"--model {info.name}+sam-vit-b"
        )
    return BoxMasks(open_sam(info.partner, allow_pickle=options.allow_pickle), options)


class BoxMasks:
    """Turns boxes into masks.

    Args:
        checkpoint: Of a SAM.
        options: Of the job.
    """

    def __init__(self, checkpoint: SamCheckpoint, options: ModelConfig) -> None:
        self._checkpoint = checkpoint
        self._options = options
        self._fitter = Fitter(checkpoint.rule, "cpu")
        self._net: SamNet | None = None

    def load(self, device: str) -> None:
        """Reads the weights.

        Raises:
            ValueError: They do not fit the architecture.
        """
        self._fitter = Fitter(self._checkpoint.rule, device)
        self._net = load_sam(self._checkpoint, self._options, device)

    def input_hw(self, picture_hw: Hw) -> Hw:
        """Size of the encoder's input for such a picture, pixels."""
        return self._fitter.frames([picture_hw])[0].input_hw

    def outline(
        self,
        samples: Sequence[Sample],
        frames: Sequence[Frame],
        seen: Sequence[Detections],
        choices: Sequence[Choice],
    ) -> list[list[Segment | None]]:
        """The masks of the boxes that are kept of each picture; see `Outliner`.

        Args:
            samples: Pictures of one `input_hw`.
            frames: Of the detector; the encoder has its own.
            seen: The boxes.
            choices: Which of them are kept.

        Returns:
            One segment a box, None where SAM leaves it empty: its evidence has the box and SAM's
            own estimate; category and score are for the caller to set. A picture without boxes
            is not encoded.

        Raises:
            RuntimeError: `load` was not called.
        """
        net = self._net
        if net is None:
            raise RuntimeError("load() has to be called first")
        answers: list[list[Segment | None]] = [[] for _ in samples]
        boxes = [
            each.boxes_xyxy[choice.answers].tolist()
            for each, choice in zip(seen, choices, strict=True)
        ]
        asked = [index for index, some in enumerate(boxes) if some]
        if not asked:
            return answers
        pixels, frames = self._fitter.batch([samples[index] for index in asked])
        pictures = encode_images(net, pixels)
        level = self._options.mask_threshold
        threshold = 0.0 if level is None else logit(level)
        for index, picture, frame in zip(asked, pictures, frames, strict=True):
            prompts = [Prompt(1, (box[0], box[1], box[2], box[3])) for box in boxes[index]]
            enlarging = Enlarging(frame, self._checkpoint.two_steps, net.cubic)
            found = masks_of_prompts(net, picture, enlarging, prompts, threshold=threshold)
            answers[index] = [_if_any(segment) for segment in found]
        return answers

    def close(self) -> None:
        """Frees the weights."""
        self._net = None


def _if_any(segment: Segment) -> Segment | None:
    """A box that stands for an empty mask has no estimate."""
    known = segment.evidence is not None and segment.evidence.predicted_iou is not None
    return segment if known else None
