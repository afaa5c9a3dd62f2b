"""TIFF: type × codec × layout × predictor × bands, from one array; the peer is tifffile."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
import tifffile
from pictures_encoded import RECORD

from pipeline.images.decode import decode_image, decode_with_values
from schemas.config.images import ImagesConfig
from schemas.records import ErrorCode, Failure, Sample

ARRAY = np.random.default_rng(5).integers(0, 1 << 16, (21, 35, 5))
"""One array for all files, cast to their type; odd sides, so that tiles and strips are cut."""

TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8")
BYTES = ("none", "lzw", "zlib", "zstd", "packbits", "lzma")
"""Codecs of plain bytes: any type, bands and predictor."""
PICTURES = {
    "jpeg": ("u1",),
    "jpeg2000": ("u1", "u2"),
    "jpegxl": ("u1", "u2"),
    "png": ("u1", "u2"),
    "webp": ("u1",),
    "lerc": ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"),
}
"""Codecs of whole pictures, and the types that they can hold."""


@dataclass(frozen=True)
class Form:
    """How one file is written."""

    kind: str
    codec: str
    tiled: bool
    separate: bool
    predictor: bool
    bands: int
    order: str = "<"

    def array(self) -> np.ndarray:
        values = ARRAY[..., : self.bands].astype(np.dtype(self.kind[0] + self.kind[1]))
        return values[..., 0] if self.bands == 1 else values

    def write(self) -> bytes:
        values = self.array()
        if self.separate:
            values = np.moveaxis(values, -1, 0)
        options: dict[str, Any] = {
            "photometric": "rgb" if self.bands in (3, 4) else "minisblack",
            "byteorder": self.order,
            "metadata": None,
        }
        if self.bands > 1:
            options["planarconfig"] = "separate" if self.separate else "contig"
        if self.bands == 4:
            options["extrasamples"] = ("unspecified",)
        options |= {"tile": (16, 16)} if self.tiled else {"rowsperstrip": 8}
        if self.predictor:
            options["predictor"] = 3 if self.kind[0] == "f" else 2
        if self.codec != "none":
            options["compression"] = self.codec
        file = io.BytesIO()
        tifffile.imwrite(file, values, **options)
        return file.getvalue()


def forms() -> list[Form]:
    found = []
    for kind, codec, tiled, bands in product(TYPES, BYTES, (False, True), (1, 2, 3, 4, 5)):
        for separate, predictor in product((False, True), (False, True)):
            if separate and (bands == 1 or codec not in ("none", "lzw", "zlib", "zstd")):
                continue
            if predictor and (codec in ("none", "packbits", "lzma") or bands in (1, 5)):
                continue
            order = ">" if bands == 3 and not tiled else "<"
            found.append(Form(kind, codec, tiled, separate, predictor, bands, order))
    for codec, kinds in PICTURES.items():
        for kind, tiled, bands in product(kinds, (False, True), (1, 3, 4)):
            if (codec == "webp" and bands == 1) or (codec == "jpeg" and bands == 4):
                continue
            found.append(Form(kind, codec, tiled, False, False, bands))
    return found


FORMS = forms()


def digest(found: Sample | Failure) -> str:
    assert isinstance(found, Sample), found
    return hashlib.sha256(found.pixels.tobytes()).hexdigest()


def test_there_are_enough_of_them():
    assert len(FORMS) >= 700
    assert len(set(FORMS)) == len(FORMS)


@pytest.mark.parametrize(("kind", "codec"), sorted({(form.kind, form.codec) for form in FORMS}))
def test_pixels_are_those_that_were_written(kind, codec):
    mine = [form for form in FORMS if (form.kind, form.codec) == (kind, codec)]
    for form in mine:
        data = form.write()
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            peer = file.asarray()
        peer = np.moveaxis(peer, 0, -1) if form.separate else peer
        if form.codec not in ("jpeg", "webp", "jpegxl", "lerc"):
            np.testing.assert_array_equal(peer, form.array(), err_msg=str(form))
        both = decode_with_values(data, RECORD, ImagesConfig())
        if isinstance(both, Failure):
            assert both.code is ErrorCode.UNSUPPORTED, form
            assert form.codec.upper() in both.message, form
            continue
        first, values = both
        got = values[..., : peer.shape[2]] if peer.ndim == 3 else values[..., 0]
        assert got.dtype == peer.dtype.newbyteorder("="), form
        np.testing.assert_array_equal(got, peer, err_msg=str(form))
        again = {digest(decode_image(data, RECORD, ImagesConfig())) for _ in range(3)}
        assert again == {digest(first)}, form


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2"])
@pytest.mark.parametrize("bands", [2, 4])
def test_compression_changes_neither_bands_nor_note(kind, bands):
    seen = set()
    for codec, tiled, predictor in product(("none", "lzw", "zlib"), (False, True), (False, True)):
        if predictor and codec == "none":
            continue
        data = Form(kind, codec, tiled, False, predictor, bands).write()
        found = decode_image(data, RECORD, ImagesConfig())
        assert isinstance(found, Sample)
        seen.add((found.note, found.pixels.tobytes()))
    assert len(seen) == 1
    assert seen.pop()[0] == ("first of 2 bands" if bands == 2 else "first 3 of 4 bands")
