"""Chain: what a picture goes through before a model sees it, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.stretch import stretch
from schemas.preprocess_config import MatchHistogram, Resize, Step
from schemas.records import Placement

from . import denoise, tones
from .resizing import place, resize

Pixels = npt.NDArray[np.uint8]

_ON_VALUES: dict[str, Callable[[Any, Any], Any]] = {
    "bands": tones.choose_bands,
    "window": tones.apply_window,
    "percentile": tones.stretch_percentiles,
}
"""Steps that take values of any type and number of bands."""

_ON_PIXELS: dict[str, Callable[[Any, Any], Pixels]] = {
    "auto_contrast": tones.auto_contrast,
    "gamma": tones.apply_gamma,
    "clahe": tones.apply_clahe,
    "white_balance": tones.balance_white,
    "median": denoise.median,
    "gaussian": denoise.gaussian,
    "bilateral": denoise.bilateral,
    "nlmeans": denoise.non_local_means,
}
"""Steps that take 8-bit RGB."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A picture after a step.

    Attributes:
        pixels: HxWx3 uint8.
        placement: Where the original lies in it, None while it has its size.
    """

    pixels: Pixels
    placement: Placement | None = None


class Chain:
    """Preprocessing of pictures one by one; safe to use from many threads.

    Steps run in their order. Values stay as the file holds them until a step makes 8 bits of them
    or needs them; then they are stretched as `images.stretch_16bit` says.

    Args:
        steps: What to do.
        references: Pictures by the URI that a `match_histogram` step names, HxWx3 uint8.
        stretching: `images.stretch_16bit`.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        references: Mapping[str, Pixels],
        *,
        stretching: Literal["percentile", "full"] = "percentile",
    ) -> None:
        self.steps = tuple(steps)
        self._references = dict(references)
        self._stretching: Literal["percentile", "full"] = stretching

    def __call__(self, values: npt.NDArray[Any]) -> Stage:
        """The picture after the last step.

        Args:
            values: HxWxC, C ≥ 1, of any type.

        Raises:
            ValueError: A step cannot be done on this picture; says which and why.
        """
        *_, last = self.stages(values)
        return last

    def stages(self, values: npt.NDArray[Any]) -> Iterator[Stage]:
        """The picture as it would be without a step, and after each one.

        Raises:
            ValueError: As above.
        """
        placement: Placement | None = None
        yield Stage(self._pixels(values))
        for step in self.steps:
            if step.step in _ON_VALUES:
                values = _ON_VALUES[step.step](values, step)
            elif isinstance(step, Resize):
                height, width = values.shape[:2]
                placement = place(height, width, step)
                values = resize(self._pixels(values), placement, fill=step.fill)
            elif isinstance(step, MatchHistogram):
                values = tones.match_reference(
                    self._pixels(values), self._references[step.reference]
                )
            else:
                values = _ON_PIXELS[step.step](self._pixels(values), step)
            yield Stage(self._pixels(values), placement)

    def _pixels(self, values: npt.NDArray[Any]) -> Pixels:
        """HxWx3 uint8: of more than three bands the first three, of two the first."""
        bands = values.shape[2]
        chosen = values[..., :3] if bands >= 3 else values[..., :1]
        shallow = chosen if chosen.dtype == np.uint8 else stretch(chosen, self._stretching)
        if shallow.shape[2] == 1:
            shallow = np.broadcast_to(shallow, (*shallow.shape[:2], 3))
        return np.ascontiguousarray(shallow)
