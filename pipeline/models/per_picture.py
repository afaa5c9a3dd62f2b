"""PerPicture: what is worked out once for a picture, however many of its tiles ask for it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")


class PerPicture(Generic[T]):
    """Remembers a function's results as long as the pictures live, and keeps none alive.

    Args:
        function: Of a picture's pixels, which nobody may change meanwhile.
    """

    def __init__(self, function: Callable[[npt.NDArray[np.uint8]], T]) -> None:
        self._function = function
        self._known: dict[int, tuple[weakref.ref[npt.NDArray[np.uint8]], T]] = {}

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> T:
        """The function's result for these pixels."""
        key = id(pixels)
        if key not in self._known:
            reference = weakref.ref(pixels, lambda _: self._known.pop(key, None))
            self._known[key] = reference, self._function(pixels)
        return self._known[key][1]
