"""How large pixels are: read from files that tifffile wrote, whichever image of them is asked."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
import tifffile

from pipeline.images.tiff.scale import Scale, channel_names, is_of_screens, ome_image, scale_of

PLAIN = np.zeros((32, 48), np.uint8)


def said(data: bytes, index: int = 0, *, likely: bool = True) -> Scale | None:
    """Of a page of a file."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[index]
        return scale_of(page, ome_image(file, index), likely=likely)


def ome(*images: dict[str, Any]) -> bytes:
    """An OME file with an image a page."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, ome=True) as writer:
        for metadata in images:
            writer.write(PLAIN, metadata={"axes": "YX", **metadata}, photometric="minisblack")
    return buffer.getvalue()


def sized(um: float, name: str, **more: Any) -> dict[str, Any]:
    return {"PhysicalSizeX": um, "PhysicalSizeY": um, "Channel": {"Name": [name]}, **more}


def test_each_image_of_an_ome_file_says_its_own() -> None:
    data = ome(
        sized(0.5, "red"), sized(200, "green", PhysicalSizeXUnit="nm", PhysicalSizeYUnit="nm")
    )
    assert said(data, 0) == Scale(0.5, 0.5, "ome")
    second = said(data, 1)
    assert second is not None
    assert (second.x, second.y, second.source) == (pytest.approx(0.2), pytest.approx(0.2), "ome")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        assert [channel_names(ome_image(file, index)) for index in (0, 1, 2)] == [
            ("red",),
            ("green",),
            (),
        ]


def rewritten(data: bytes, change: Any) -> bytes:
    """The file with other OME-XML of no more bytes."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        before = str(file.ome_metadata)
    after = change(before)
    room = len(before.encode())
    assert len(after.encode()) <= room
    return data.replace(before.encode(), after.encode().ljust(room))


def test_an_image_that_is_elsewhere_does_not_lend_its_size() -> None:
    """A set lists the images of all its files in each: the first one may be in another."""
    long = "x" * 400  # room for what is put in
    data = ome(sized(9.0, "there", Name=long), sized(0.5, "here"))
    uuid = "<UUID>urn:uuid:1</UUID>"

    def elsewhere(text: str) -> str:
        text = text.replace(long, "a")
        first = re.search(r"<TiffData[^>]*/>", text)
        assert first is not None
        named = first[0].replace("/>", f">{uuid}</TiffData>")
        return text.replace(first[0], named, 1).replace('IFD="1"', 'IFD="0"', 1)

    moved = rewritten(data, elsewhere)
    assert said(moved, 0) == Scale(0.5, 0.5, "ome")
    with tifffile.TiffFile(io.BytesIO(moved)) as file:
        assert channel_names(ome_image(file, 0)) == ("here",)


@pytest.mark.parametrize("size", ["nan", "-1", "0", "inf", "half"])
def test_a_size_that_is_no_length_is_none(size: str) -> None:
    data = ome({"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25})
    assert said(rewritten(data, lambda text: text.replace('"0.25"', f'"{size}"'))) is None


def test_the_thumbnail_of_a_slide_has_not_the_slide_s_pixels() -> None:
    buffer = io.BytesIO()
    words = "Aperio Image Library v12\r\n{} |AppMag = 20|MPP = 0.5"
    colour = np.zeros((64, 96, 3), np.uint8)
    with tifffile.TiffWriter(buffer) as writer:
        write = {"metadata": None, "photometric": "rgb"}
        writer.write(colour, tile=(16, 16), description=words.format("96x64 (16x16)"), **write)
        small = words.format("96x64 -> 24x16")
        writer.write(colour[::4, ::4].copy(), description=small, **write)
    assert said(buffer.getvalue(), 0) == Scale(0.5, 0.5, "tiff")
    assert said(buffer.getvalue(), 1) is None


def test_dots_of_screens_are_believed_only_on_demand() -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, PLAIN, resolution=(72, 72), resolutionunit="INCH")
    assert said(buffer.getvalue()) is None
    found = said(buffer.getvalue(), likely=False)
    assert found is not None
    assert found.x == pytest.approx(25_400 / 72)
    assert is_of_screens((300.0, 300.01))
    assert not is_of_screens((300.0, 317.0))
