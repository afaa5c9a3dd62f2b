"""Chain: what a picture goes through before a model sees it, step by step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.storage.file_bytes import Contents
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri
from schemas.config.images import ImagesConfig
from schemas.config.preprocess import MatchHistogram, PreprocessConfig, Resize, Step
from schemas.notes import without_bands
from schemas.records import ErrorCode, Failure, ImageRecord, Placement, Sample

from . import filters
from .decode import decode_image, decode_with_values
from .stretch import stretch

# A picture at another size, and the way back for positions.

Pixels = npt.NDArray[np.uint8]


def place(height: int, width: int, step: Resize) -> Placement:
    """Where a picture lies after a resize.

    Args:
        height: Of the picture, pixels.
        width: Likewise.
        step: How.
    """
    picture, (tall, wide) = (height, width), step.size_hw()
    if step.mode == "stretch":
        return Placement(picture, (tall, wide), (tall, wide))
    if step.mode == "shortest":
        scale = tall / min(picture)
        content = _scaled(picture, scale)
        return Placement(picture, content, content)
    content = _scaled(picture, min(tall / height, wide / width))
    content = min(content[0], tall), min(content[1], wide)
    offset = (tall - content[0]) // 2, (wide - content[1]) // 2
    return Placement(picture, content, (tall, wide), offset)


def resize(pixels: Pixels, placement: Placement, *, fill: int) -> Pixels:
    """The picture as `placement` says, HWC; averaged where it shrinks, linear where it grows."""
    height, width = placement.content_hw
    shrinks = height <= pixels.shape[0] and width <= pixels.shape[1]
    content = pixels
    if pixels.shape[:2] != (height, width):
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        content = np.asarray(cv2.resize(pixels, (width, height), interpolation=way), np.uint8)
    if placement.input_hw == placement.content_hw:
        return content
    canvas = np.full((*placement.input_hw, pixels.shape[2]), fill, np.uint8)
    top, left = placement.offset_yx
    canvas[top : top + height, left : left + width] = content
    return canvas


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    height, width = (max(round(side * scale), 1) for side in size)
    return height, width


_ON_VALUES: dict[str, Callable[[Any, Any], Any]] = {
    "bands": filters.choose_bands,
    "window": filters.apply_window,
    "percentile": filters.stretch_percentiles,
}
"""Steps that take values of any type and number of bands."""

_ON_PIXELS: dict[str, Callable[[Any, Any], Pixels]] = {
    "auto_contrast": filters.auto_contrast,
    "gamma": filters.apply_gamma,
    "clahe": filters.apply_clahe,
    "white_balance": filters.balance_white,
    "median": filters.median,
    "gaussian": filters.gaussian,
    "bilateral": filters.bilateral,
    "nlmeans": filters.non_local_means,
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
                values = filters.match_reference(
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


# Preprocessing of a job's pictures: references are read, files decoded, the chain applied.


def resolve_references(config: PreprocessConfig, storage: Storage) -> PreprocessConfig:
    """The same with absolute URIs and hashes of the pictures that steps refer to.

    Raises:
        ValueError: A reference is no picture, or not the one whose hash is given.
        StorageError: It cannot be read.
    """

    def resolved(step: Step) -> Step:
        if not isinstance(step, MatchHistogram):
            return step
        uri = absolute_uri(step.reference)
        _, sha256 = _reference(uri, step.sha256, storage)
        return step.model_copy(update={"reference": uri, "sha256": sha256})

    return config.model_copy(update={"steps": tuple(map(resolved, config.steps))})


def make_chain(config: PreprocessConfig, images: ImagesConfig, storage: Storage) -> Chain:
    """The chain that a config names.

    Raises:
        ValueError: A reference is no picture, or has changed since it was resolved.
        StorageError: It cannot be read.
    """
    references = {
        step.reference: _reference(step.reference, step.sha256, storage)[0]
        for step in config.steps
        if isinstance(step, MatchHistogram)
    }
    return Chain(config.steps, references, stretching=images.stretch_16bit)


def decode_through(
    chain: Chain, data: Contents, record: ImageRecord, images: ImagesConfig
) -> Sample | Failure:
    """Decodes a picture and sends it through a chain; never raises because of the bytes.

    Returns:
        A `Sample` of what the model is to see, or why there is none.
    """
    choosing = any(step.step == "bands" for step in chain.steps)
    decoded = decode_with_values(data, record, images, every_band=choosing)
    if isinstance(decoded, Failure):
        return decoded
    sample, values = decoded
    if choosing:  # what was left out by default has been chosen from
        sample = replace(sample, note=without_bands(sample.note))
    try:
        stage = chain(values)
    except ValueError as error:
        return Failure(ErrorCode.UNSUPPORTED, f"preprocess: {error}")
    return replace(
        sample,
        pixels=stage.pixels,
        original_hw=(stage.pixels.shape[0], stage.pixels.shape[1]),
        placement=stage.placement,
    )


def _reference(uri: str, sha256: str, storage: Storage) -> tuple[Pixels, str]:
    data = storage.read(absolute_uri(uri))
    digest = hashlib.sha256(data).hexdigest()
    if sha256 and digest != sha256:
        raise ValueError(f"preprocess: the reference {uri} is not the picture with hash {sha256}")
    sample = decode_image(data, ImageRecord(uri, uri), ImagesConfig())
    if isinstance(sample, Failure):
        raise ValueError(f"preprocess: the reference {uri} cannot be decoded: {sample.message}")
    return sample.pixels, digest
