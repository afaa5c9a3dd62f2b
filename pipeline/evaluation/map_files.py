"""Pictures whose pixels are numbers: label maps, maps of category ids, panoptic id maps."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

MAP_SUFFIXES = (".png", ".tif", ".tiff")


def read_map(data: bytes, name: str) -> npt.NDArray[np.integer]:
    """A one-channel map, HxW, of PNG (grey or palette indices, 8 or 16 bits) or TIFF (integers).

    Raises:
        ValueError: The bytes are no such picture.
    """
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        try:
            array = np.squeeze(tifffile.imread(io.BytesIO(data), key=0))
        except Exception as error:  # tifffile raises whatever its parser trips over
            raise ValueError(f"{name} is no readable TIFF: {error}") from None
        if not array.size:
            raise ValueError(f"{name} is no readable TIFF: it holds no picture")
    elif data[1:4] == b"PNG" and data[25:26] == b"\x03":
        try:
            # OpenCV would turn the indices of a palette into colours.
            array = np.asarray(Image.open(io.BytesIO(data)))
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"{name} is no readable picture: {error}") from None
    else:
        array = _decode(data, name, cv2.IMREAD_UNCHANGED)
    if array.ndim != 2 or array.dtype.kind not in "bui":
        raise ValueError(
            f"{name} is no map of numbers: it has shape {array.shape} and type {array.dtype}"
        )
    return array.astype(np.int32) if array.dtype.kind == "b" else array


def read_id_map(data: bytes, name: str) -> npt.NDArray[np.int32]:
    """A panoptic PNG as ids, HxW: R + 256·G + 256²·B.

    Raises:
        ValueError: The bytes are no picture.
    """
    bgr = _decode(data, name, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    blue, green, red = (bgr[:, :, channel].astype(np.int32) for channel in range(3))
    return red + (green << 8) + (blue << 16)


def _decode(data: bytes, name: str, flags: int) -> npt.NDArray[Any]:
    if not data:
        raise ValueError(f"{name} is empty")
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        array = None
    if array is None:
        raise ValueError(f"{name} is no readable picture")
    return np.asarray(array)
