"""One picture out of a file that holds several: planes, pages, channels, time points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from schemas.config.images import ImagesConfig
from schemas.notes import first_of
from schemas.records import ErrorCode

from .decoded import UndecodableError

Values = npt.NDArray[Any]

_WORDS = {"Z": ("plane", "planes of a z-stack"), "F": ("frame", "frames")}
_PAGES = ("page", "pages")


@dataclass(frozen=True, slots=True)
class ImageStack:
    """A file's planes by axis.

    Attributes:
        sizes: Axis → length, in the order of the file. "Z" depth, "T" time, "C" channel; any other
            letter counts pages ("F": frames of an animation).
        plane: Position on every axis, from 0 → the plane's values, HxW or HxWxS.
        names: Of the channels, where the file names them.
    """

    sizes: Mapping[str, int]
    plane: Callable[[Mapping[str, int]], Values]
    names: tuple[str, ...] = ()

    def long(self, axes: str) -> list[str]:
        """Those of these axes (default: all but time and channels) that are longer than one."""
        return [axis for axis in self.sizes if self.sizes[axis] > 1 and axis in axes]

    @property
    def page_axes(self) -> list[str]:
        """Axes of planes and pages longer than one: depth first."""
        own = [axis for axis in self.sizes if axis not in "TC" and self.sizes[axis] > 1]
        return sorted(own, key=lambda axis: axis != "Z")


@dataclass(frozen=True, slots=True)
class Picked:
    """What was read of a stack.

    Attributes:
        values: HxW or HxWxC: every channel, or every band of the one channel of several bands.
        chosen: Places among the C of those that are shown, or None where nobody chose.
        notes: What was left out or chosen.
        channels: Whether the C are channels that each have a plane of their own.
    """

    values: Values
    chosen: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()
    channels: bool = False


def pick(stack: ImageStack, config: ImagesConfig) -> Picked:
    """Reads what the config asks of a stack; without a choice the first of everything.

    Raises:
        UndecodableError: It has no such page, time point or channel.
    """
    notes: list[str] = []
    at = dict.fromkeys(stack.sizes, 0)
    over = _place_page(stack, config, at, notes)
    _place_time(stack, config, at, notes, taken=over)
    count = stack.sizes.get("C", 1)
    if count == 1:
        values, more = _project(stack, at, over, config)
        chosen = choose_channels(config.channels, _bands(values), stack.names)
        return Picked(values, chosen, (*notes, *more))
    chosen = choose_channels(config.channels, count, stack.names)
    first = chosen[0] if chosen else 0
    values, more = _project(stack, {**at, "C": first}, over, config)
    if values.ndim == 3:  # each channel in colours of its own
        if chosen is not None and len(chosen) > 1:
            raise UndecodableError(
                ErrorCode.UNSUPPORTED,
                "images.channels: each channel of this file is in colour; name one",
            )
        notes += [] if chosen else [first_of(count, "channels")]
        return Picked(values, None, (*notes, *more))
    if chosen is None:
        notes.append(first_of(count, "channels"))
    planes = [
        values if channel == first else _project(stack, {**at, "C": channel}, over, config)[0]
        for channel in range(count)
    ]
    if len({(plane.shape, plane.dtype) for plane in planes}) > 1:
        raise UndecodableError(ErrorCode.UNSUPPORTED, "the channels differ in size or type")
    return Picked(np.stack(planes, axis=-1), chosen or (0,), (*notes, *more), channels=True)


def choose_channels(
    asked: Sequence[int | str], count: int, names: Sequence[str] = ()
) -> tuple[int, ...] | None:
    """Places from 0 of the channels that are asked for, None where nothing is asked.

    Raises:
        UndecodableError: There is no such channel.
    """
    if not asked:
        return None
    found = []
    for one in asked:
        place = one - 1 if isinstance(one, int) else _named(one, names)
        if place is None or place >= count:
            there = f" ({', '.join(names)})" if any(names) else ""
            raise UndecodableError(
                ErrorCode.UNSUPPORTED,
                f"images.channels: there is no channel {one!r}, the image has {count}{there}",
            )
        found.append(place)
    return tuple(found)


def _named(name: str, names: Sequence[str]) -> int | None:
    exact = [at for at, one in enumerate(names) if one == name]
    loose = [at for at, one in enumerate(names) if one.casefold() == name.casefold()]
    return (exact or loose or [None])[0]


def _bands(values: Values) -> int:
    return values.shape[2] if values.ndim == 3 else 1


def _place_page(
    stack: ImageStack, config: ImagesConfig, at: dict[str, int], notes: list[str]
) -> str | None:
    """Sets the page; the axis to project over, if one is."""
    own = stack.page_axes or (["T"] if config.time is None and stack.long("T") else [])
    page = None if isinstance(config.page, str) else config.page
    if not own:
        if page is not None and page > 1:
            raise UndecodableError(ErrorCode.UNSUPPORTED, f"images.page = {page}: there is 1 page")
        return None
    axis = own[0]
    for other in own[1:]:
        notes.append(f"axis {other}: {first_of(stack.sizes[other], 'pages')}")
    count = stack.sizes[axis]
    word, several = ("time point", "time points") if axis == "T" else _WORDS.get(axis, _PAGES)
    if config.projection != "none":
        return axis
    if config.page is None:
        if axis != "T":
            notes.append(first_of(count, several))
        return None
    page = page or 1
    if page > count:
        raise UndecodableError(
            ErrorCode.UNSUPPORTED, f"images.page = {page}: there are {count} {several}"
        )
    at[axis] = page - 1
    notes.append(f"{word} {page} of {count}")
    return "" if axis == "T" else None


def _place_time(
    stack: ImageStack,
    config: ImagesConfig,
    at: dict[str, int],
    notes: list[str],
    *,
    taken: str | None,
) -> None:
    count = stack.sizes.get("T", 1)
    if config.time is not None:
        if config.time > count:
            points = "1 time point" if count == 1 else f"{count} time points"
            raise UndecodableError(
                ErrorCode.UNSUPPORTED, f"images.time = {config.time}: the image has {points}"
            )
        at["T"] = config.time - 1
        if count > 1:
            notes.append(f"time point {config.time} of {count}")
    elif count > 1 and taken not in ("T", ""):
        notes.append(first_of(count, "time points"))


def _project(
    stack: ImageStack, at: Mapping[str, int], over: str | None, config: ImagesConfig
) -> tuple[Values, tuple[str, ...]]:
    """One plane, or one made of all along an axis; two planes are in memory at most."""
    if not over:
        return stack.plane(at), ()
    count = stack.sizes[over]
    said = "time points" if over == "T" else _WORDS.get(over, _PAGES)[1]
    if config.projection == "sharpest":
        # All channels of a picture show one depth: that of the first.
        seen = {**at, "C": 0} if "C" in at else at
        best = max(range(count), key=lambda z: _sharpness(stack.plane({**seen, over: z})))
        return stack.plane({**at, over: best}), (f"sharpest of {count} {said}: {best + 1}",)
    first = stack.plane(at)
    total = first if config.projection == "max" else first.astype(np.float64)
    for place in range(1, count):
        plane = stack.plane({**at, over: place})
        if plane.shape != first.shape:
            raise UndecodableError(
                ErrorCode.UNSUPPORTED,
                f'images.projection = "{config.projection}": the {said} differ in size',
            )
        total = np.maximum(total, plane) if config.projection == "max" else total + plane
    if config.projection == "mean":
        total = total / count
        total = (np.rint(total) if first.dtype.kind in "iu" else total).astype(first.dtype)
    return total, (f"{config.projection} of {count} {said}",)


def _sharpness(plane: Values) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000): large where edges are in focus."""
    grey = plane if plane.ndim == 2 else plane.mean(axis=2)
    return float(cv2.Laplacian(np.nan_to_num(grey.astype(np.float64)), cv2.CV_64F).var())
