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

from .decoded import Decoded, UndecodableError, from_deep, full_range
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

_ADOBE = b"\xff\xee\x00\x0eAdobe"
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
        picture = _windowed(picked.values, source, color, picked.notes, config)
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
    """Decodes frames of an open file, one at a time.

    Attributes:
        dataset: The file.
        first: Place of the first frame that was read.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.first: int | None = None
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

    def described(self, index: int, macro: str) -> Any:
        """What says something of a frame: its own group, the one of all frames, or the file."""
        groups = []
        for name, place in (("PerFrame", index), ("Shared", 0)):
            every = self.dataset.get(f"{name}FunctionalGroupsSequence") or ()
            groups += every[place : place + 1]
        found = [group[macro][0] for group in groups if group.get(macro)]
        return found[0] if found else self.dataset

    def _values(self, index: int, color: str) -> Values:
        tools: Any = import_module("pydicom.pixels")
        self.first = index if self.first is None else self.first
        frame = self._frame(index, color)
        frame = frame.astype(frame.dtype.newbyteorder("="), copy=False)
        if color in _GREY:
            says = self.described(index, "PixelValueTransformationSequence")
            values = np.asarray(tools.apply_modality_lut(frame, says))
            whole = values.dtype.kind == "f" and np.array_equal(values, np.rint(values))
            return values.astype(np.int32) if whole else values
        if color == "PALETTE COLOR":
            frame = np.asarray(tools.apply_color_lut(frame, self.dataset))
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
        dataset, decode = self.dataset, _CODECS.get(self._syntax)
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
        if color == "RGB" and decode is imagecodecs.jpeg_decode and _ADOBE not in body:
            # libjpeg takes colours for YCbCr where only DICOM says that they are not.
            frame = imagecodecs.jpeg8_decode(body, colorspace="RGB", outcolorspace="RGB")
        else:
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
    values: Values, source: _Frames, color: str, notes: tuple[str, ...], config: ImagesConfig
) -> Decoded:
    """A grey image through the file's first window or table (PS3.3, C.11.2.1); else stretched."""
    inverted = color == "MONOCHROME1"
    says = source.described(source.first or 0, "FrameVOILUTSequence")
    window = _window(says)
    if window is not None:
        center, width, count = window
        if count > 1:
            notes += (f"window 1 of {count}",)
        share = _through(values.astype(np.float64), center, width, says)
    elif says.get("VOILUTSequence") and values.dtype.kind in "iu":
        share = _looked_up(values, says.VOILUTSequence[0])
    else:
        stored = int(source.dataset.get("BitsStored", 8))
        values = full_range(values, stored) if values.dtype == np.uint8 else values
        return from_deep(values, 1, notes, config, inverted=inverted)
    shown = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    if inverted:
        shown = 255 - shown
    made = from_deep(shown, 1, notes, config)
    turned = values
    if inverted:
        turned = np.iinfo(values.dtype).max - values if values.dtype.kind == "u" else -values
    plain = values.dtype == np.uint8 and np.array_equal(shown, turned)
    return Decoded(made.pixels, made.stored_hw, 1, notes, None if plain else turned)


def _through(values: Values, center: float, width: float, says: Any) -> Values:
    """Values through a window, 0…1 within it."""
    function = str(says.get("VOILUTFunction", "LINEAR")).upper()
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return (values - (center - width / 2)) / width
    span = max(width - 1, 1)
    return (values - (center - 0.5 - span / 2)) / span


def _looked_up(values: Values, table: Any) -> Values:
    """Values through a table (PS3.3, C.11.2.1.1), 0…1; pydicom's own way ends at 256 entries."""
    count, first, bits = (int(one) for one in table.LUTDescriptor)
    count = count or 1 << 16
    entries: Any = table.LUTData
    if isinstance(entries, bytes):
        wide = len(entries) >= 2 * count
        entries = np.frombuffer(entries, "<u2" if wide else np.uint8)
    entries = np.asarray(entries, np.float64)
    if first >= 1 << 15 and values.min() < 0:  # written without its sign
        first -= 1 << 16
    place = np.clip(values.astype(np.int64) - first, 0, min(count, len(entries)) - 1)
    return entries[place] / ((1 << bits) - 1)


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
