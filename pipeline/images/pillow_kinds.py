"""Formats that Pillow reads, or a plugin of it: one class a format, frames of animations."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import AvifImagePlugin, BmpImagePlugin, GifImagePlugin, ImageFile, WebPImagePlugin

from schemas.config.images import ImagesConfig
from schemas.notes import first_of
from schemas.records import ErrorCode

from .decoded import Decoded, Pixels, UndecodableError, exif_orientation, from_deep, from_pillow
from .memory import check_size
from .stack import ImageStack, choose_channels, pick

# A format's class itself, not Image.open, which would guess the format again.
Plugin = Callable[[io.BytesIO], ImageFile.ImageFile]
Decoder = Callable[[bytes, ImagesConfig, int | None], Decoded]


def decode_with(plugin: Plugin) -> Decoder:
    """A decoder that leaves everything to one of Pillow's format classes."""

    def decode(data: bytes, config: ImagesConfig, min_side: int | None) -> Decoded:
        image = plugin(io.BytesIO(data))
        check_size(image.height, image.width, config)
        return with_channels(read_frames(image, config), config)

    return decode


def read_frames(image: ImageFile.ImageFile, config: ImagesConfig) -> Decoded:
    """The frame or the projection of frames that the config asks for; else the first, noted.

    Raises:
        UndecodableError: There is no such frame.
    """
    frames = count_frames(image)
    asked = config.projection != "none" or config.page not in (None, "first", 1)
    if not asked:
        notes = (first_of(frames, "frames"),) if frames > 1 and config.page is None else ()
        image.load()
        orientation, more = exif_orientation(image)
        if image.mode.startswith("I"):  # 16-bit grey
            return from_deep(np.asarray(image), orientation, notes + more, config)
        return from_pillow(image, orientation, notes + more)
    orientation, more = exif_orientation(image)

    def frame(at: object) -> Pixels:
        image.seek(at["F"])  # type: ignore[index]
        image.load()
        return from_pillow(image, 1).pixels

    picked = pick(ImageStack({"F": frames}, frame), config.model_copy(update={"channels": ()}))
    hw = picked.values.shape[:2]
    return Decoded(np.asarray(picked.values, np.uint8), hw, orientation, (*more, *picked.notes))


def with_channels(picture: Decoded, config: ImagesConfig) -> Decoded:
    """The one or three channels that are asked for, of an image in red, green and blue.

    Raises:
        UndecodableError: There is no such channel.
    """
    whole = picture.pixels if picture.values is None else np.atleast_3d(picture.values)
    chosen = choose_channels(config.channels, whole.shape[2], ("red", "green", "blue"))
    if chosen is None:
        return picture
    values = whole[..., chosen[0]] if len(chosen) == 1 else whole[..., list(chosen)]
    made = from_deep(values, picture.orientation, picture.notes, config)
    return Decoded(made.pixels, picture.stored_hw, made.orientation, made.notes, made.values)


def one_page(config: ImagesConfig, frames: int = 1) -> None:
    """Refuses a page of a picture that has no other; of several frames the caller has chosen.

    Raises:
        UndecodableError: There is no such page.
    """
    if frames == 1 and config.page not in (None, "first", 1):
        message = f"images.page = {config.page}: there is 1 page"
        raise UndecodableError(ErrorCode.UNSUPPORTED, message)


def count_frames(image: ImageFile.ImageFile) -> int:
    """Frames of an animation, 1 where they cannot be counted."""
    try:
        count = int(getattr(image, "n_frames", 1))
        image.seek(0)
    except Exception:  # a later frame is broken; the first is what counts
        return 1
    return count


def decode_heic(data: bytes, config: ImagesConfig, min_side: int | None) -> Decoded:
    """HEIC and HEIF, through the optional pillow-heif; turned upright by its own boxes.

    Raises:
        UndecodableError: pillow-heif is not installed, or the image is too large.
    """
    return decode_with(heif_plugin())(data, config, min_side)


def heif_plugin() -> Plugin:
    """The class of the optional pillow-heif.

    Raises:
        UndecodableError: It is not installed.
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise UndecodableError(
            ErrorCode.UNSUPPORTED, "HEIC: install maskmill[heif] to read it"
        ) from None
    return HeifImageFile


PLUGINS: dict[str, Plugin] = {
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}
"""Kind as `sniff` names it → Pillow's class."""
