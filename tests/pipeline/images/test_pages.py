"""pages.py: the planes of files as images, and how they are read."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator

import imagecodecs
import numpy as np
import pytest
import tifffile
from pictures_encoded import encoded, scene
from PIL import Image

from pipeline.images.pages import PlaneReader, as_planes, planes_in
from schemas.config.images import ImagesConfig
from schemas.records import ImageRecord


def stack(*shape: int, axes: str) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros(shape, np.uint16), imagej=True, metadata={"axes": axes})
    return file.getvalue()


FILES = {
    "a/one.png": encoded(scene(), "PNG"),
    "a/stack.tif": stack(3, 8, 9, axes="ZYX"),
    "broken.tif": b"II*\0nothing",
    "film.tif": stack(4, 2, 8, 9, axes="TZYX"),
}


class Memory:
    """A reader of bytes in memory that counts what is read."""

    def __init__(self) -> None:
        self.inventory = {".txt": 1}
        self.reads = 0

    def list(self) -> Iterator[ImageRecord]:
        return (ImageRecord(name, f"memory:{name}", len(FILES[name])) for name in FILES)

    def read(self, record: ImageRecord) -> bytes:
        self.reads += 1
        return FILES[record.file_name]


@pytest.mark.parametrize(
    ("each", "names"),
    [
        ("z", ["a/stack.tif#z=1", "a/stack.tif#z=2", "a/stack.tif#z=3"]),
        ("page", ["a/stack.tif#page=1", "a/stack.tif#page=2", "a/stack.tif#page=3"]),
        ("time", ["a/stack.tif"]),
    ],
)
def test_a_listing_of_planes(each, names):
    listed = [record.file_name for record in PlaneReader(Memory(), each).list()]
    film = {
        "z": ["z=1", "z=2"],
        "page": ["page=1", "page=2"],
        "time": [f"t={n}" for n in (1, 2, 3, 4)],
    }
    expected = ["a/one.png", *names, "broken.tif", *(f"film.tif#{one}" for one in film[each])]
    assert listed == expected


def test_a_plane_has_the_bytes_of_its_file_and_they_are_read_once():
    memory = Memory()
    reader = PlaneReader(memory, "z")
    records = list(reader.list())
    before = memory.reads
    planes = [
        record for record in records if record.plane.startswith("z=") and "stack" in record.uri
    ]
    assert [record.plane for record in planes] == ["z=1", "z=2", "z=3"]
    assert {reader.read(record) for record in planes} == {FILES["a/stack.tif"]}
    assert memory.reads == before + 1
    assert reader.read(records[0]) == FILES["a/one.png"]
    assert reader.inventory == {".txt": 1}


def test_a_reader_travels():
    reader = pickle.loads(pickle.dumps(PlaneReader(Memory(), "z")))
    record = next(record for record in reader.list() if record.plane)
    assert reader.read(record) == FILES["a/stack.tif"]


def test_without_the_option_nothing_is_wrapped():
    memory = Memory()
    assert as_planes(memory, ImagesConfig()) is memory
    assert isinstance(as_planes(memory, ImagesConfig(each="page")), PlaneReader)


def test_frames_are_pages():
    file = io.BytesIO()
    frames = [Image.fromarray(np.roll(scene(), shift, axis=1)) for shift in (0, 9)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    assert planes_in(file.getvalue(), "page") == 2
    assert planes_in(file.getvalue(), "z") == 1
    assert planes_in(FILES["a/one.png"], "page") == 1


@pytest.mark.parametrize("kind", ["PNG", "MPO", "WEBP", "AVIF"])
def test_frames_of_every_kind_are_pages(kind):
    more = [Image.fromarray(255 - scene()), Image.fromarray(scene()[::-1])]
    assert planes_in(encoded(scene(), kind, save_all=True, append_images=more), "page") == 3
    assert planes_in(encoded(scene(), kind), "page") == 1


def test_frames_of_jpeg_xl_and_heic_are_pages():
    film = np.stack([scene(), 255 - scene()])
    assert planes_in(imagecodecs.jpegxl_encode(film, lossless=True), "page") == 2
    assert planes_in(imagecodecs.jpegxl_encode(scene()), "page") == 1
    heif = pytest.importorskip("pillow_heif", reason="needs maskmill[heif]")
    pair = heif.from_pillow(Image.fromarray(scene()))
    pair.add_from_pillow(Image.fromarray(255 - scene()))
    file = io.BytesIO()
    pair.save(file)
    assert planes_in(file.getvalue(), "page") == 2
