"""DICOM through the optional pydicom: modality values, the file's window, frames as pages."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode

from .decoded import Decoded, UndecodableError, from_deep
from .memory import check_size, deep_bytes
from .pillow_kinds import with_channels
from .stack import ImageStack, pick

Values = npt.NDArray[Any]

_JPEG = "1.2.840.10008.1.2.4."
_CODECS: dict[str, Callable[[bytes], Any]] = {
    **dict.fromkeys((_JPEG + "50", _JPEG + "51"), imagecodecs.jpeg_decode),
    **dict.fromkeys((_JPEG + "57", _JPEG + "70"), imagecodecs.ljpeg_decode),
    **dict.fromkeys((_JPEG + "80", _JPEG + "81"), imagecodecs.jpegls_decode),
    **dict.fromkeys((_JPEG + "90", _JPEG + "91"), imagecodecs.jpeg2k_decode),
    **dict.fromkeys((_JPEG + "201", _JPEG + "202", _JPEG + "203"), imagecodecs.htj2k_decode),
}
"""Transfer syntax → decoder of a frame (PS3.6, table A-1); pydicom itself reads the others."""

_GREY = ("MONOCHROME1", "MONOCHROME2")


def decode_dicom(data: bytes, config: ImagesConfig, min_side: int | None) -> Decoded:
    """One frame, as the file's window shows it; `values` are those of the modality (such as HU).

    Raises:
        UndecodableError: pydicom is not installed, or the file has no pixels that can be read.
    """
    dataset = _opened(data)
    height, width = int(dataset.Rows), int(dataset.Columns)
    bands = int(dataset.get("SamplesPerPixel", 1))
    bits = int(dataset.get("BitsAllocated", 8))
    check_size(height, width, config, bytes_a_pixel=deep_bytes(bands, max(1, bits // 8)))
    color = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    source = _Frames(dataset)

    def plane(at: Mapping[str, int]) -> Values:
        return source.values(at["F"], color)

    stack = ImageStack({"F": _frames_of(dataset)}, plane)
    picked = pick(stack, config.model_copy(update={"channels": ()}))
    if color not in _GREY:
        picture = from_deep(picked.values, 1, picked.notes, config)
    else:
        picture = _windowed(picked.values, dataset, color, picked.notes, config)
    return with_channels(picture, config)


def count_dicom_frames(data: bytes) -> int:
    """Frames of a DICOM file.

    Raises:
        UndecodableError: See `decode_dicom`.
    """
    return _frames_of(_opened(data))


def _frames_of(dataset: Any) -> int:
    """Frames of an open file, at least 1."""
    return max(1, int(dataset.get("NumberOfFrames", 1) or 1))


def _opened(data: bytes) -> Any:
    try:
        import pydicom
    except ImportError:
        message = "DICOM: install maskmill[dicom] to read it"
        raise UndecodableError(ErrorCode.UNSUPPORTED, message) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(io.BytesIO(data))
        except MemoryError:
            raise
        except Exception:
            raise UndecodableError(ErrorCode.DECODE_ERROR, "DICOM: damaged header") from None
    if any(tag not in dataset for tag in ("Rows", "Columns")):
        raise UndecodableError(ErrorCode.UNSUPPORTED, "DICOM: the file holds no image")
    if "PixelData" not in dataset:
        floats = "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset
        code = ErrorCode.UNSUPPORTED if floats else ErrorCode.TRUNCATED
        what = "pixels in floats are not supported" if floats else "the pixels are missing"
        raise UndecodableError(code, f"DICOM: {what}")
    return dataset


class _Frames:
    """Decodes frames of an open file, one at a time."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._syntax = str(dataset.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2"))

    def values(self, index: int, color: str) -> Values:
        """Modality values of a grey frame, RGB of one in colour.

        Raises:
            UndecodableError: The frame is missing, damaged or of an unsupported kind.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return self._values(index, color)
            except (MemoryError, UndecodableError):
                raise
            except Exception:
                message = "DICOM: damaged pixels"
                raise UndecodableError(ErrorCode.DECODE_ERROR, message) from None

    def _values(self, index: int, color: str) -> Values:
        tools: Any = import_module("pydicom.pixels")
        frame = self._frame(index, color)
        if color in _GREY:
            values = np.asarray(tools.apply_modality_lut(frame, self._dataset))
            whole = values.dtype.kind == "f" and np.array_equal(values, np.rint(values))
            return values.astype(np.int32) if whole else values
        if color == "PALETTE COLOR":
            frame = np.asarray(tools.apply_color_lut(frame, self._dataset))
            return (frame >> 8).astype(np.uint8) if frame.dtype == np.uint16 else frame
        if color not in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"):
            raise UndecodableError(
                ErrorCode.UNSUPPORTED, f"DICOM: photometric {color} is not supported"
            )
        return frame

    def _frame(self, index: int, color: str) -> Values:
        """As stored; colours as RGB."""
        from pydicom.encaps import get_frame

        tools: Any = import_module("pydicom.pixels")
        dataset, decode = self._dataset, _CODECS.get(self._syntax)
        if decode is None:
            _check_length(dataset, color)
            try:
                frame = tools.pixel_array(dataset, index=index, raw=True)
            except (NotImplementedError, RuntimeError):
                name = dataset.file_meta.TransferSyntaxUID.name
                message = f"DICOM: transfer syntax {name} is not supported"
                raise UndecodableError(ErrorCode.UNSUPPORTED, message) from None
            if color.startswith("YBR_FULL"):
                frame = tools.convert_color_space(frame, color, "RGB")
            return frame
        count = _frames_of(dataset)
        body = get_frame(dataset.PixelData, index, number_of_frames=count)
        frame = np.asarray(decode(body))
        if frame.shape[:2] != (int(dataset.Rows), int(dataset.Columns)):
            raise UndecodableError(ErrorCode.DECODE_ERROR, "DICOM: a frame has another size")
        stored, signed = int(dataset.BitsStored), int(dataset.get("PixelRepresentation", 0))
        if signed and frame.dtype.kind == "u":
            wide = frame.astype(np.int32)
            frame = np.where(wide >= 1 << (stored - 1), wide - (1 << stored), wide)
        return frame


def _check_length(dataset: Any, color: str) -> None:
    """Makes sure that uncompressed pixels are all there."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if (syntax is not None and syntax.is_encapsulated) or color == "YBR_FULL_422":
        return
    bits = int(dataset.BitsAllocated) * int(dataset.get("SamplesPerPixel", 1))
    needed = -(-int(dataset.Rows) * int(dataset.Columns) * _frames_of(dataset) * bits // 8)
    if len(dataset.PixelData) < needed:
        message = "DICOM: the file ends inside the pixels"
        raise UndecodableError(ErrorCode.TRUNCATED, message)


def _windowed(
    values: Values, dataset: Any, color: str, notes: tuple[str, ...], config: ImagesConfig
) -> Decoded:
    """A grey image through the file's first window (PS3.3, C.11.2.1.2); else stretched."""
    inverted = color == "MONOCHROME1"
    window = _window(dataset)
    if window is None:
        return from_deep(values, 1, notes, config, inverted=inverted)
    center, width, count = window
    if count > 1:
        notes += (f"window 1 of {count}",)
    exact = str(dataset.get("VOILUTFunction", "LINEAR")).upper() == "LINEAR_EXACT"
    low, span = (center - width / 2, width) if exact else (center - width / 2, max(width - 1, 1))
    low = low if exact else center - 0.5 - span / 2
    shown = np.rint(np.clip((values.astype(np.float64) - low) / span, 0, 1) * 255).astype(np.uint8)
    if inverted:
        shown = 255 - shown
    made = from_deep(shown, 1, notes, config)
    turned = values
    if inverted:
        turned = np.iinfo(values.dtype).max - values if values.dtype.kind == "u" else -values
    plain = values.dtype == np.uint8 and np.array_equal(shown, turned)
    return Decoded(made.pixels, made.stored_hw, 1, notes, None if plain else turned)


def _window(dataset: Any) -> tuple[float, float, int] | None:
    centers, widths = dataset.get("WindowCenter"), dataset.get("WindowWidth")
    if centers in (None, "") or widths in (None, ""):
        return None
    many = [list(one) if hasattr(one, "__iter__") else [one] for one in (centers, widths)]
    try:
        center, width = float(many[0][0]), float(many[1][0])
    except (TypeError, ValueError, IndexError):
        return None
    return (center, width, len(many[0])) if width > 0 else None
