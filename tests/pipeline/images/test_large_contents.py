"""large.py, bytes: large TIFFs stay where they lie, everything else is read."""

from __future__ import annotations

import io
import tarfile

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from pipeline.images import large
from pipeline.images.decode import decode_image, decode_values
from pipeline.images.large import read_contents
from pipeline.images.pages import as_planes
from pipeline.readers import open_reader
from pipeline.storage.file_bytes import FileBytes, sha256_of
from pipeline.storage.storage import Storage
from schemas.config.images import ImagesConfig
from schemas.config.job import InputConfig
from schemas.records import Failure, Sample

PIXELS = np.random.default_rng(0).integers(0, 65536, (3, 20, 30)).astype(np.uint16)


def tiff() -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, PIXELS, imagej=True, metadata={"axes": "ZYX"})
    return file.getvalue()


def png() -> bytes:
    return cv2.imencode(".png", PIXELS[0])[1].tobytes()


def tarred(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def every_file_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "LARGE_FILE", 1)


@pytest.mark.parametrize("root", ["", "memory://contents/"])
def test_from_every_kind_of_input(tmp_path, root):
    root = root or f"{tmp_path}/"
    store = Storage()
    store.write(f"{root}folder/a.tif", tiff())
    store.write(f"{root}folder/b.png", png())
    store.write(f"{root}tars/t.tar", tarred(a_tif=tiff(), b_png=png()))
    store.write(f"{root}list.txt", b"folder/a.tif\nfolder/b.png\n")
    for uri in (f"{root}folder", f"{root}tars/t.tar", f"{root}list.txt"):
        reader = open_reader(InputConfig(uri=uri), store)
        for record in reader.list():
            found = read_contents(reader, record)
            whole = reader.read(record)
            assert isinstance(found, FileBytes) == record.file_name.endswith(".tif"), uri
            assert sha256_of(found) == sha256_of(whole)
            config = ImagesConfig(projection="max") if whole[:2] == b"II" else ImagesConfig()
            by_ranges = decode_image(found, record, config)
            at_once = decode_image(whole, record, config)
            assert isinstance(by_ranges, Sample)
            assert isinstance(at_once, Sample)
            np.testing.assert_array_equal(by_ranges.pixels, at_once.pixels)
            assert by_ranges.note == at_once.note
            values = decode_values(found, config)
            assert not isinstance(values, Failure)
            np.testing.assert_array_equal(
                np.squeeze(values), PIXELS.max(0) if config.projection == "max" else PIXELS[0]
            )


def test_planes_of_one_file_share_its_bytes(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff())
    config = ImagesConfig(each="z")
    reader = as_planes(open_reader(InputConfig(uri=str(tmp_path)), Storage()), config)
    records = list(reader.list())
    assert [record.plane for record in records] == ["z=1", "z=2", "z=3"]
    found = [read_contents(reader, record) for record in records]
    assert found[0] is found[1] is found[2]
    for place, record in enumerate(records):
        values = decode_values(found[0], config, plane=record.plane)
        assert not isinstance(values, Failure)
        np.testing.assert_array_equal(values[..., 0], PIXELS[place])


def test_colours_that_pillow_converts(tmp_path):
    Image.new("LAB", (40, 30), (90, 120, 130)).save(tmp_path / "lab.tif")
    reader = open_reader(InputConfig(uri=str(tmp_path)), Storage())
    (record,) = reader.list()
    found = decode_image(read_contents(reader, record), record, ImagesConfig())
    assert isinstance(found, Sample)
    whole = decode_image(reader.read(record), record, ImagesConfig())
    assert isinstance(whole, Sample)
    np.testing.assert_array_equal(found.pixels, whole.pixels)


def test_a_store_that_fails_while_pixels_are_decoded_is_no_broken_picture(tmp_path, monkeypatch):
    """tifffile goes on without tags and pages that it cannot have."""
    (tmp_path / "a.tif").write_bytes(tiff())
    reader = open_reader(InputConfig(uri=str(tmp_path)), Storage())
    (record,) = reader.list()
    monkeypatch.setattr("pipeline.storage.file_bytes.BLOCK", 64)
    for cut in range(64, len(tiff()), 64):
        found = read_contents(reader, record)
        assert isinstance(found, FileBytes)
        found._blocks.clear()
        (tmp_path / "a.tif").write_bytes(tiff()[:cut])
        outcome = decode_image(found, record, ImagesConfig())
        (tmp_path / "a.tif").write_bytes(tiff())
        if isinstance(outcome, Failure):
            assert outcome.code == "read_error", (cut, outcome)
        else:  # the planes behind the first are not needed
            assert cut > 20 * 30 * 2
