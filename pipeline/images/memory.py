"""How many pixels one image may have: what the explicit rule says, or what the memory holds."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode

from .decoded import UndecodableError

BYTES_A_PIXEL = 24
"""Decoding, upright turning, the model's copies and masks of one 8-bit image, measured."""

_SHARE = 4
"""One image may take so much of a worker's memory: others are read ahead beside it."""

_CGROUPS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
_GB = 1 << 30
_state = {"workers": 1}


def share_memory(workers: int) -> None:
    """Says how many workers share this machine's memory; called once in a worker process."""
    _state["workers"] = max(1, workers)


def worker_memory() -> int:
    """Bytes that this process may use: its share of the machine's or the container's memory."""
    return _machine_memory(_CGROUPS) // _state["workers"]


@cache
def _machine_memory(limits: tuple[str, ...]) -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in limits:
        try:
            total = min(total, int(Path(name).read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return total


def check_size(
    height: int,
    width: int,
    config: ImagesConfig,
    *,
    bytes_a_pixel: float = BYTES_A_PIXEL,
    tiled: bool = False,
) -> None:
    """Refuses more pixels than the limit; called before any pixel is decoded.

    Args:
        height: Of what will be decoded, pixels.
        width: Likewise.
        config: `max_pixels` is a plain rule; without it the worker's memory decides, and the
            refusal is temporary, since another worker may have more.
        bytes_a_pixel: That the chosen way to decode takes at its peak.
        tiled: It is looked at in tiles already.

    Raises:
        UndecodableError: TOO_LARGE.
    """
    pixels = height * width
    if config.max_pixels is not None:
        if pixels > config.max_pixels:
            raise UndecodableError(
                ErrorCode.TOO_LARGE,
                f"{width} × {height} pixels are more than images.max_pixels = {config.max_pixels}",
            )
        return
    needed, usable = pixels * bytes_a_pixel, worker_memory() // _SHARE
    if needed > usable:
        raise UndecodableError(
            ErrorCode.TOO_LARGE,
            f"{_short(pixels / 1e6)} MP needs about {_short(needed / _GB)} GB, this worker may use "
            f"{_short(usable / _GB)}; {'' if tiled else 'tile it or '}set images.max_pixels",
            temporary=True,
        )


def deep_bytes(bands: int, itemsize: int) -> int:
    """Bytes a pixel of an image of several bands or more than 8 bits, its stretch included."""
    plain = bands <= 3 and itemsize == 1
    return BYTES_A_PIXEL + (0 if plain else bands * itemsize + 16 * min(bands, 3))


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 3 else f"{value:.2g}"
