"""One picture through a chain, drawn step by step: before, after, and what changed."""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri
from schemas.config.images import ImagesConfig
from schemas.config.preprocess import PreprocessConfig
from schemas.records import Failure, ImageRecord

from .decode import decode_with_values
from .preprocess import Stage, make_chain, resolve_references

Pixels = npt.NDArray[np.uint8]

_GAP, _TEXT = 12, 20
_GROUND, _INK, _MUTED = (250, 250, 248), (22, 24, 29), (95, 100, 111)
_UP, _DOWN = (255, 140, 0), (30, 120, 255)
_FULL = 64
"""Change of a pixel's lightness that is drawn in full colour."""


def preview(
    config: PreprocessConfig,
    image: str,
    output: str,
    *,
    images: ImagesConfig | None = None,
    side: int = 480,
    storage: Storage | None = None,
) -> list[str]:
    """Writes a sheet with a row a step: the picture before it, after it, and what it changed.

    The third panel is the picture after the step in grey, tinted orange where it became lighter
    and blue where darker.

    Args:
        config: The chain.
        image: A picture.
        output: URI of the PNG to write.
        images: How bytes become pixels.
        side: Longer side of a panel at most, pixels.
        storage: File access.

    Returns:
        A line for each step: what it was, and how it changed the picture.

    Raises:
        ValueError: The chain is empty, a reference is bad, or the picture cannot be decoded or
            does not suit a step.
        StorageError: A file cannot be read or written.
    """
    if not config.steps:
        raise ValueError("nothing to preview: preprocess.steps is empty")
    if not output.lower().endswith(".png"):
        raise ValueError(f"the output must end in .png, got {output!r}")
    storage, images = storage or Storage(), images or ImagesConfig()
    chain = make_chain(resolve_references(config, storage), images, storage)
    uri = absolute_uri(image)
    decoded = decode_with_values(storage.read(uri), ImageRecord(uri, uri), images)
    if isinstance(decoded, Failure):
        raise ValueError(f"{image}: {decoded.message}")
    try:
        stages = list(chain.stages(decoded[1]))
    except ValueError as error:
        raise ValueError(f"{image}: {error}") from None
    lines, rows = [], []
    for number, (step, before, after) in enumerate(
        zip(chain.steps, stages[:-1], stages[1:], strict=True), 1
    ):
        line = f"{number}. {_words(step.model_dump(mode='json'))}"
        lines.append(f"{line}: {_effect(before, after)}")
        panels = (before.pixels, after.pixels, _changes(_content(before), _content(after)))
        rows.append((lines[-1], [_fit(panel, side) for panel in panels]))
    storage.write(absolute_uri(output), _png(_sheet(rows)))
    return lines


def _content(stage: Stage) -> Pixels:
    """The picture without what was filled around it."""
    if stage.placement is None:
        return stage.pixels
    (top, left), (height, width) = stage.placement.offset_yx, stage.placement.content_hw
    return stage.pixels[top : top + height, left : left + width]


def _changes(before: Pixels, after: Pixels) -> Pixels:
    """The second picture in grey, tinted where its lightness differs from the first's."""
    height, width = after.shape[:2]
    if before.shape != after.shape:
        resized = cv2.resize(before, (width, height), interpolation=cv2.INTER_AREA)
        before = np.asarray(resized, np.uint8)
    old, new = (cv2.cvtColor(one, cv2.COLOR_RGB2GRAY).astype(np.float32) for one in (before, after))
    change = np.clip((new - old) / _FULL, -1, 1)[..., None]
    tint = np.where(change > 0, np.array(_UP, np.float32), np.array(_DOWN, np.float32))
    grey = 0.5 * new[..., None] + 64
    share = np.abs(change)
    return np.rint(grey * (1 - share) + tint * share).astype(np.uint8)


def _effect(before: Stage, after: Stage) -> str:
    (height, width), (tall, wide) = before.pixels.shape[:2], after.pixels.shape[:2]
    if (height, width) != (tall, wide):
        return f"{width} x {height} becomes {wide} x {tall}"
    old, new = before.pixels.astype(np.float32), after.pixels.astype(np.float32)
    return (
        f"mean {old.mean():.1f} to {new.mean():.1f}, spread {old.std():.1f} to {new.std():.1f}, "
        f"{100 * np.mean((old != new).any(axis=2)):.1f} % of the pixels changed"
    )


def _words(step: dict[str, object]) -> str:
    """A step's name and settings, as one would say them; a hash is shortened."""
    name = step.pop("step")
    settings = ", ".join(
        f"{key} {str(value)[:12] if key == 'sha256' else value}"
        for key, value in step.items()
        if value is not None
    )
    return f"{name} ({settings})" if settings else str(name)


def _fit(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _sheet(rows: Sequence[tuple[str, Sequence[Pixels]]]) -> Image.Image:
    heights = [max(panel.shape[0] for panel in panels) for _, panels in rows]
    widths = [max(panels[k].shape[1] for _, panels in rows) for k in range(3)]
    font = ImageFont.load_default(14)
    longest = max(font.getlength(title) for title, _ in rows)
    width = max(sum(widths) + 2 * _GAP, int(longest) + 1) + 2 * _GAP
    height = sum(heights) + len(rows) * (_TEXT + 2 * _GAP) + _TEXT + _GAP
    sheet = Image.new("RGB", (width, height), _GROUND)
    draw = ImageDraw.Draw(sheet)
    lefts = [_GAP, 2 * _GAP + widths[0], 3 * _GAP + widths[0] + widths[1]]
    for left, head in zip(lefts, ("before", "after", "lighter orange, darker blue"), strict=True):
        draw.text((left, _GAP), head, fill=_MUTED, font=font)
    top = _GAP + _TEXT
    for (title, panels), tall in zip(rows, heights, strict=True):
        draw.text((_GAP, top + _GAP // 2), title, fill=_INK, font=font)
        for left, panel in zip(lefts, panels, strict=True):
            sheet.paste(Image.fromarray(panel), (left, top + _TEXT + _GAP))
        top += tall + _TEXT + 2 * _GAP
    return sheet


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
