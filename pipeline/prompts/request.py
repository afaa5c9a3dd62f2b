"""Request: what a promptable model is asked. No torch here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from math import ceil, floor

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from pipeline.images.decode import decode_image
from pipeline.images.decoded import UndecodableError
from pipeline.images.memory import check_size
from pipeline.images.preprocess import decode_through, make_chain, resolve_references
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri
from schemas.config.images import ImagesConfig
from schemas.config.job import JobConfig
from schemas.config.model import NamingConfig
from schemas.config.prompts import ConflictsConfig, EverythingConfig, PromptsConfig
from schemas.prompts import ExemplarText, Ontology
from schemas.records import Failure, ImageRecord, Sample

# Exemplars: objects in pictures that show what to look for, read before the first image.

_MASKS = ("PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
"""Kinds of files that a mask can be, in Pillow's names; JPEG blurs what is 0."""

_LARGEST = 1024
"""Pixels of a window's longer side; an embedder sees a few hundred of them."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Exemplar:
    """An object with its surroundings.

    Attributes:
        name: What a row's `prompt` says.
        category: What it is.
        pixels: HWC uint8 RGB, the window of the picture around it.
        bbox_xyxy: Of the object: left, top, right, bottom in pixels of the window.
        sha256: Of the picture's pixels and size, hex.
        asked_xywh: The box as asked for, pixels of the picture.
    """

    name: str
    category: str
    pixels: npt.NDArray[np.uint8]
    bbox_xyxy: Box
    sha256: str
    asked_xywh: Box

    def identity(self) -> dict[str, object]:
        """What labels depend on: not where the picture is, nor what its file is called."""
        return {"sha256": self.sha256, "bbox_xywh": self.asked_xywh, "category": self.category}


def read_exemplars(config: JobConfig, storage: Storage) -> tuple[Exemplar, ...]:
    """Reads the pictures that `prompts.exemplars` names, preprocessed as all pictures are.

    Raises:
        ValueError: A picture cannot be read or decoded, or a box leaves it; names the flag.
    """
    found: list[Exemplar] = []
    for asked, where, sample in _pictures(config, storage):
        if asked.bbox_xywh is None:
            raise ValueError(
                f"{where}: an embedder is shown boxes, IMAGE:x,y,w,h=CATEGORY; masks are for SegGPT"
            )
        found.append(_cut(asked, asked.bbox_xywh, where, sample, config.naming.margin))
    return tuple(found)


@dataclass(frozen=True, slots=True, eq=False)
class MaskExemplar:
    """A picture in which the objects of a category are marked.

    Attributes:
        name: What a row's `prompt` says.
        category: What is marked.
        pixels: HWC uint8 RGB, the whole picture.
        mask: HxW bool, where it is.
        sha256: Of the picture's pixels, its size and the mask, hex.
    """

    name: str
    category: str
    pixels: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]
    sha256: str

    def identity(self) -> dict[str, object]:
        """What labels depend on: not where the files are, nor what they are called."""
        return {"sha256": self.sha256, "category": self.category}


def read_mask_exemplars(config: JobConfig, storage: Storage) -> tuple[MaskExemplar, ...]:
    """As `read_exemplars`, for a model that is shown pictures with masks.

    Raises:
        ValueError: A picture or a mask cannot be read, their sizes differ, or the mask marks
            nothing or everything; names the flag.
    """
    found: list[MaskExemplar] = []
    for asked, where, sample in _pictures(config, storage):
        if not asked.mask:
            raise ValueError(
                f"{where}: SegGPT is shown masks, IMAGE:@MASK=CATEGORY; boxes are for embedders"
            )
        uri = absolute_uri(asked.mask)
        try:
            mask = _read_mask(storage.read(uri), uri, where, config.images)
        except StorageError as error:
            raise ValueError(f"{where}: {error}") from error
        (height, width), (mask_h, mask_w) = sample.original_hw, mask.shape
        if (height, width) != (mask_h, mask_w):
            turned = ": it looks unturned" if (height, width) == (mask_w, mask_h) else ""
            raise ValueError(
                f"{where}: the mask has {mask_w} × {mask_h} pixels, the upright picture "
                f"{width} × {height}{turned}"
            )
        if mask.all() or not mask.any():
            marks = "every pixel" if mask.any() else "nothing"
            raise ValueError(f"{where}: the mask marks {marks}; what is 0 in it is not the object")
        packed = np.packbits(mask).tobytes()
        head = f"{width}x{height}\n".encode()
        found.append(
            MaskExemplar(
                name=asked.name,
                category=asked.category,
                pixels=np.ascontiguousarray(sample.pixels),
                mask=mask,
                sha256=hashlib.sha256(head + sample.pixels.tobytes() + packed).hexdigest(),
            )
        )
    return tuple(found)


def absolute_exemplars(texts: Sequence[str]) -> tuple[str, ...]:
    """The same with absolute paths, so that the dataset says what was shown wherever it is read."""
    return tuple(_absolute(text, ExemplarText.parse(text)) for text in texts)


def window_of(
    bbox_xywh: Sequence[float], picture_hw: tuple[int, int], *, margin: float
) -> tuple[int, int, int, int]:
    """The part of a picture that an exemplar needs, so that its crop is as in the whole picture.

    Args:
        bbox_xywh: Of the object, pixels.
        picture_hw: Of the picture.
        margin: Of the crops, in longer sides of the box.

    Returns:
        Left, top, right, bottom.
    """
    x, y, width, height = bbox_xywh
    more = (1 + 2 * margin) * max(width, height)  # a crop at the picture's rim is moved inwards
    whole_h, whole_w = picture_hw
    return (
        max(floor(x - more), 0),
        max(floor(y - more), 0),
        min(ceil(x + width + more), whole_w),
        min(ceil(y + height + more), whole_h),
    )


def _absolute(text: str, asked: ExemplarText) -> str:
    if asked.mask:
        return f"{absolute_uri(asked.image)}:@{absolute_uri(asked.mask)}={asked.category}"
    return absolute_uri(asked.image) + text[len(asked.image) :]


def _pictures(config: JobConfig, storage: Storage) -> Iterator[tuple[ExemplarText, str, Sample]]:
    """Each exemplar as written, what an error calls it, and its picture, which is read once."""
    pictures: dict[str, Sample] = {}
    for text in config.prompts.exemplars:
        asked, where = ExemplarText.parse(text), f"--exemplar {text!r}"
        uri = absolute_uri(asked.image)
        if uri not in pictures:
            pictures[uri] = _read(uri, where, config, storage)
        yield asked, where, pictures[uri]


def _read_mask(data: bytes, uri: str, where: str, images: ImagesConfig) -> npt.NDArray[np.bool_]:
    """HxW: where a picture's grey, palette index or colour is not 0; transparency says nothing."""
    try:
        with Image.open(BytesIO(data), formats=_MASKS) as picture:
            check_size(picture.height, picture.width, images)
            values = np.asarray(picture)
    except UndecodableError as error:
        raise ValueError(f"{where}: {uri} is no mask: {error}") from None
    except UnidentifiedImageError:
        kinds = ", ".join(_MASKS)
        raise ValueError(f"{where}: {uri} is no mask that can be read; it may be {kinds}") from None
    except Exception as error:  # Pillow raises whatever its parsers trip over
        why = " ".join(str(error).split())[:200].replace(repr(data), "")
        raise ValueError(f"{where}: {uri} is no mask that can be read: {why}") from None
    if values.ndim == 2:
        return np.ascontiguousarray(values != 0)
    colours = values[..., : values.shape[2] - (values.shape[2] in (2, 4))]
    return np.ascontiguousarray((colours != 0).any(axis=2))


def _read(uri: str, where: str, config: JobConfig, storage: Storage) -> Sample:
    record = ImageRecord(uri, uri)
    try:
        data = storage.read(uri)
    except StorageError as error:
        raise ValueError(f"{where}: {error}") from error
    if config.preprocess.steps:
        steps = resolve_references(config.preprocess, storage)
        chain = make_chain(steps, config.images, storage)
        sample = decode_through(chain, data, record, config.images)
    else:
        sample = decode_image(data, record, config.images)
    if isinstance(sample, Failure):
        raise ValueError(f"{where}: {uri} is no picture: {sample.message}")
    return sample


def _cut(asked: ExemplarText, bbox: Box, where: str, sample: Sample, margin: float) -> Exemplar:
    height, width = sample.original_hw
    x, y, w, h = bbox
    if x < 0 or y < 0 or x + w > width or y + h > height:
        raise ValueError(
            f"{where}: the box leaves the picture, which has {width} × {height} pixels"
        )
    left, top, right, bottom = window_of(bbox, sample.original_hw, margin=margin)
    pixels = np.ascontiguousarray(sample.pixels[top:bottom, left:right])
    scale = min(_LARGEST / max(pixels.shape[:2]), 1.0)
    if scale < 1:
        size = [max(round(side * scale), 1) for side in pixels.shape[1::-1]]
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    across = pixels.shape[1] / (right - left)
    down = pixels.shape[0] / (bottom - top)
    box = ((x - left) * across, (y - top) * down)
    digest = hashlib.sha256(f"{width}x{height}\n".encode() + sample.pixels.tobytes())
    return Exemplar(
        name=asked.name,
        category=asked.category,
        pixels=pixels,
        bbox_xyxy=(*box, box[0] + w * across, box[1] + h * down),
        sha256=digest.hexdigest(),
        asked_xywh=bbox,
    )


@dataclass(frozen=True, slots=True)
class Request:
    """What a job asks of a promptable model.

    Attributes:
        prompts: The section of the config.
        everything: Settings of the grid of points.
        conflicts: How overlapping masks are resolved.
        ontology: Text prompts and their categories, or None where none were given.
        from_file: Each picture brings its own points and boxes, from a file of prompts.
        naming: How everything-masks are compared with words and exemplars.
        exemplars: Objects that show what to look for.
        mask_exemplars: Pictures in which it is marked.
    """

    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    everything: EverythingConfig = field(default_factory=EverythingConfig)
    conflicts: ConflictsConfig = field(default_factory=ConflictsConfig)
    ontology: Ontology | None = None
    from_file: bool = False
    naming: NamingConfig = field(default_factory=NamingConfig)
    exemplars: tuple[Exemplar, ...] = ()
    mask_exemplars: tuple[MaskExemplar, ...] = ()
