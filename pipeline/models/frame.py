"""Frame: where a picture lies in a model's input, and which cells of the output each pixel sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Axis:
    """Linear interpolation along one side: pixel i = (1 − weight[i])·low[i] + weight[i]·high[i].

    Attributes:
        low: n int32, a cell of the grid.
        high: n int32, the same or the next cell.
        weight: n float32 in 0…1, of `high`.
    """

    low: npt.NDArray[np.int32]
    high: npt.NDArray[np.int32]
    weight: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture inside a model's input.

    Pixel and cell centres are at halves (0.5, 1.5, …), as in PyTorch's `interpolate` with
    `align_corners=False`, OpenCV's and Pillow's `resize`.

    Attributes:
        picture_hw: Of the original picture, in whose pixels masks are wanted.
        content_hw: Of the resized picture inside the input, pixels.
        input_hw: Of the whole input, padding included, pixels.
        offset_yx: Of the resized picture's top left corner in the input, pixels.
    """

    picture_hw: tuple[int, int]
    content_hw: tuple[int, int]
    input_hw: tuple[int, int]
    offset_yx: tuple[int, int] = (0, 0)

    def axes(self, grid_hw: tuple[int, int]) -> tuple[Axis, Axis]:
        """How each row and each column of the picture is read from an output grid.

        Without padding this is `interpolate(grid, picture_hw, mode="bilinear")`. With padding,
        pixels at the picture's rim are held inside its own cells: no value is mixed from cells
        that saw nothing but padding.

        Args:
            grid_hw: Cells of the output that cover the whole input.
        """
        y, x = (
            _axis(pixels, content, cells, start, whole)
            for pixels, content, whole, start, cells in zip(
                self.picture_hw,
                self.content_hw,
                self.input_hw,
                self.offset_yx,
                grid_hw,
                strict=True,
            )
        )
        return y, x


def _axis(pixels: int, content: int, cells: int, start: int, whole: int) -> Axis:
    ratio = cells / whole  # cells a pixel of the input
    at = ((np.arange(pixels) + 0.5) * (content / pixels) + start) * ratio - 0.5
    first, last = start * ratio, (start + content) * ratio - 1
    at = np.clip(at, min(first, cells - 1), max(last, first, 0))
    low = np.floor(at).astype(np.int32)
    high = np.minimum(low + 1, cells - 1).astype(np.int32)
    return Axis(low, high, (at - low).astype(np.float32))
