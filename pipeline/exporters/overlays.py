"""Overlays: pictures with masks, outlines, names and scores painted over them, to be looked at."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import orjson
from PIL import Image, ImageDraw, ImageFont

from pipeline.ledger.ledger import Ledger
from pipeline.masks.codec import mask_window
from pipeline.masks.resample import fit
from pipeline.storage.uris import join
from schemas.categories import Category
from schemas.records import ImageRecord, Task
from schemas.rows import AnnotationRow, ImageRow, size_of

from .pictures import PICTURE_COLUMNS, Pictures, encoded, flat_name
from .table import Artifact, Report, Traits
from .tree import OwnFile, Tree, labelled_images

Pixels = npt.NDArray[np.uint8]

_GOLDEN = 137.50776 / 360
"""The golden angle: hues of neighbours in a list stay apart, however many there are."""

_QUALITY = 90
_NAMED = 60
"""Segments of a picture that are named, at most, the largest first: more is a wall of text."""

_SWATCHES = 8

_LEAST = 768
"""Smaller pictures are enlarged to it, if `overlay_size` lets them: names need room."""


class Overlays:
    """`<image>.jpg` (png, webp) and `categories.json`.

    Each segment has a hue of its own, a golden angle from the one before, light on dark parts of
    the picture and dark on light ones, and an outline of the contrary lightness. The legend below
    counts segments by category. Background is not painted.
    """

    tasks: tuple[Task, ...] = ("panoptic", "instance", "semantic")
    folder = "overlays"
    owns = ""
    file = "categories.json"
    options: tuple[str, ...] = (
        "overlay_size", "overlay_opacity", "overlay_format", "overlay_legend",
    )  # fmt: skip
    traits = Traits(masks="painted", pictures=True)

    def __init__(
        self,
        overlay_size: int = 1280,
        overlay_opacity: float = 0.45,
        overlay_format: str = "jpg",
        overlay_legend: bool = True,
    ) -> None:
        self._side = overlay_size
        self._opacity = overlay_opacity
        self._suffix = f".{overlay_format}"
        self._legend = overlay_legend

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes a picture an image, then categories.json, then removes stale pictures."""
        tree = Tree(ledger.storage, out)
        count = tree.write(self._files(ledger, Pictures(ledger)))
        ledger.storage.write(join(out, self.file), _key(ledger))
        tree.tidy()
        return [
            Artifact(self.file, "overlays", len(ledger.categories)),
            Artifact("./", "overlays", count),
        ]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Sees that every image has its picture, of the right width, and no other is there."""
        Tree(ledger.storage, out).check(self._files(ledger, None), report)
        if ledger.storage.read(join(out, self.file)) != _key(ledger):
            report("export-head", self.file)

    def _files(self, ledger: Ledger, pictures: Pictures | None) -> Iterator[OwnFile]:
        table = ledger.categories.by_id()
        columns = ["segment_id", "category_id", "area", "score", "rle", "bbox_xywh"]
        for row, items in labelled_images(ledger, PICTURE_COLUMNS, columns):
            record = pictures.find([row])[row["file_name"]] if pictures else None
            make = partial(self._make, table, row, items, pictures, record)
            width = self._size(size_of(row))[1]
            yield OwnFile(flat_name(row, self._suffix), make, (0, width))

    def _size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        if not self._side:
            return size_hw
        if (longer := max(size_hw)) >= (least := min(_LEAST, self._side)):
            return fit(size_hw, self._side)
        return round(size_hw[0] * least / longer) or 1, round(size_hw[1] * least / longer) or 1

    def _make(
        self,
        table: dict[int, Category],
        row: ImageRow,
        items: Sequence[AnnotationRow],
        pictures: Pictures | None,
        record: ImageRecord | None,
    ) -> bytes:
        if pictures is None or record is None:
            return b""
        pixels = pictures.pixels(row, record)
        kept = [item for item in items if not table[item["category_id"]].is_background]
        size = self._size(pixels.shape[:2])
        painted = paint_overlay(pixels, kept, table, size_hw=size, opacity=self._opacity)
        if self._legend:
            painted = _with_legend(painted, kept, table)
        return encoded(painted, self._suffix, quality=_QUALITY)


def paint_overlay(
    pixels: Pixels,
    segments: Sequence[AnnotationRow],
    table: dict[int, Category],
    *,
    size_hw: tuple[int, int],
    opacity: float,
) -> Pixels:
    """A picture with its segments painted over it.

    Args:
        pixels: HxWx3 uint8 RGB, upright.
        segments: Rows with segment_id, category_id, area, score, rle and bbox_xywh; the largest
            are painted first, and lie below.
        table: category id → Category.
        size_hw: Height and width of the result, pixels.
        opacity: Of the masks' insides, 0…1.

    Returns:
        size_hw × 3 uint8 RGB.
    """
    full = pixels.shape[:2]
    shrinks = size_hw[0] <= full[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    canvas = pixels if full == size_hw else cv2.resize(pixels, size_hw[::-1], interpolation=how)
    canvas = np.array(canvas, np.uint8)
    light = cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY)
    thickness = max(1, round(max(size_hw) / 640))
    ordered = sorted(segments, key=lambda item: (-item["area"], item["segment_id"]))
    names: list[_Name] = []
    for item in ordered:
        (top, left), mask = _shrunk(item, full, size_hw)
        if not mask.any():
            continue
        height, width = mask.shape
        place = np.s_[top : top + height, left : left + width]
        inside = mask.astype(bool)
        color = segment_color(item["segment_id"], float(light[place][inside].mean()))
        region = canvas[place]
        mixed = (1 - opacity) * region[inside] + opacity * np.array(color)
        region[inside] = np.rint(mixed).astype(np.uint8)
        outline = _contrary(color)
        padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
        rings, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        offset = (left - 1, top - 1)
        cv2.drawContours(canvas, rings, -1, outline, thickness + 1, cv2.LINE_AA, offset=offset)
        cv2.drawContours(
            canvas, rings, -1, color, max(1, thickness - 1), cv2.LINE_AA, offset=offset
        )
        if len(names) < _NAMED:
            deep = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
            y, x = np.unravel_index(int(deep.argmax()), deep.shape)
            middle = (left + int(x) - 1, top + int(y) - 1)
            box = (left, top, left + width, top + height)
            names.append(_Name(_title(item, table), color, middle, float(deep.max()), box))
    return _with_names(canvas, names)


def segment_color(number: int, lightness: float) -> tuple[int, int, int]:
    """The colour of the n-th segment of a picture.

    Args:
        number: Its id; the hue moves on by a golden angle each.
        lightness: Mean grey value of the picture below it, 0…255.

    Returns:
        Red, green, blue: bright where the picture is dark, deep where it is light.
    """
    hue = number * _GOLDEN % 1
    dark = lightness < 128
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75 if dark else 0.95, 1.0 if dark else 0.6)
    return round(red * 255), round(green * 255), round(blue * 255)


def _contrary(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Near black beside a light colour, near white beside a dark one."""
    red, green, blue = color
    return (16, 16, 16) if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else (245, 245, 245)


@dataclass(frozen=True, slots=True)
class _Name:
    """A segment's name and where there is room for it: its deepest point, how deep, its box."""

    text: str
    color: tuple[int, int, int]
    middle_xy: tuple[int, int]
    depth: float
    bbox_xyxy: tuple[int, int, int, int]

    def places(self, width: float, height: float) -> list[tuple[float, float]]:
        """Left and top that a label of this size may have, the best first.

        Inside where it hides little of the segment, else above it, below it, or at its sides.
        """
        x, y = self.middle_xy
        left, top, right, bottom = self.bbox_xyxy
        outside = [
            (x - width / 2, top - height - 8),
            (x - width / 2, bottom + 6),
            (right + 8, y - height / 2),
            (left - width - 8, y - height / 2),
        ]
        within = [(x - width / 2, y - height / 2)]
        roomy = self.depth > height and right - left > width
        return [*within, *outside] if roomy else outside


def _shrunk(
    item: AnnotationRow, full_hw: tuple[int, int], size_hw: tuple[int, int]
) -> tuple[tuple[int, int], Pixels]:
    """(top, left) and mask of a segment in the painted picture; at least one pixel is kept."""
    x, y, w, h = item["bbox_xywh"]
    counts = item["rle"]["counts"].encode()
    window = mask_window(counts, *full_hw, (x, y, x + w, y + h))
    if full_hw == size_hw:
        return (y, x), window
    scale_y, scale_x = size_hw[0] / full_hw[0], size_hw[1] / full_hw[1]
    top, left = int(y * scale_y), int(x * scale_x)
    bottom = min(max(int(np.ceil((y + h) * scale_y)), top + 1), size_hw[0])
    right = min(max(int(np.ceil((x + w) * scale_x)), left + 1), size_hw[1])
    size = (right - left, bottom - top)
    soft = cv2.resize(window * 255, size, interpolation=cv2.INTER_AREA)
    mask = (soft >= 128).astype(np.uint8)
    if not mask.any():
        mask.reshape(-1)[int(soft.argmax())] = 1
    return (top, left), mask


def _title(item: AnnotationRow, table: dict[int, Category]) -> str:
    name = _one_line(table[item["category_id"]].name)
    return name if item["score"] is None else f"{name}  {item['score']:.2f}"


def _one_line(name: str) -> str:
    """A name as Pillow can measure it."""
    return " ".join(name.split())


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _with_names(canvas: Pixels, names: Sequence[_Name]) -> Pixels:
    """Writes the names; one that has no place free of others is left out."""
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    font = _font(max(11, round(max(canvas.shape[:2]) / 75)))
    taken: list[tuple[float, float, float, float]] = []
    for name in names:
        left, top, right, bottom = draw.textbbox((0, 0), name.text, font=font)
        width, height = right - left, bottom - top
        for x0, y0 in name.places(width, height):
            box = (x0 - 3, y0 - 2, x0 + width + 3, y0 + height + 2)
            inside = min(box) >= 0 and box[2] < canvas.shape[1] and box[3] < canvas.shape[0]
            if inside and not any(_meet(box, other) for other in taken):
                taken.append(box)
                draw.rounded_rectangle(box, 3, fill=(18, 18, 18), outline=name.color)
                draw.text((x0 - left, y0 - top), name.text, font=font, fill=(255, 255, 255))
                break
    return np.asarray(image, np.uint8)


def _meet(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _with_legend(
    canvas: Pixels, segments: Sequence[AnnotationRow], table: dict[int, Category]
) -> Pixels:
    """Adds a strip below: each category, how many segments, and some of their hues."""
    counts = Counter(item["category_id"] for item in segments)
    hues: dict[int, list[tuple[int, int, int]]] = {}
    for item in segments:
        own = hues.setdefault(item["category_id"], [])
        if len(own) < _SWATCHES:
            own.append(segment_color(item["segment_id"], 0))
    size = max(11, round(max(canvas.shape[:2]) / 70))
    font, line = _font(size), round(size * 1.8)
    width = canvas.shape[1]
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    placed: list[tuple[float, int, str, list[tuple[int, int, int]]]] = []
    x, rows = float(size), 0
    entries = [(f"{_one_line(table[key].name)}: {n}", hues[key]) for key, n in counts.most_common()]
    for text, own in entries or [("nothing found", [])]:
        length = probe.textlength(text, font=font) + (len(own) + 2) * size * 0.6 + size
        if x + length > width and x > size:
            x, rows = float(size), rows + 1
        placed.append((x, rows, text, own))
        x += length
    strip = Image.new("RGB", (width, (rows + 1) * line + size), (24, 24, 27))
    draw = ImageDraw.Draw(strip)
    for left, row, text, own in placed:
        top = row * line + size * 0.7
        for place, color in enumerate(own):
            start = left + place * size * 0.6
            draw.rectangle((start, top + 2, start + size * 0.5, top + size), fill=color)
        draw.text(
            (left + (len(own) + 0.6) * size * 0.6, top), text, font=font, fill=(235, 235, 235)
        )
    return np.concatenate((canvas, np.asarray(strip, np.uint8)))


def _key(ledger: Ledger) -> bytes:
    rows = [item.to_coco() for item in ledger.categories]
    data = {"format": "overlays", "categories": rows}
    return orjson.dumps(data, option=orjson.OPT_INDENT_2) + b"\n"
