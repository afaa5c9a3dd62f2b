"""What a file is by its suffix."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from pipeline.readers import kinds, open_reader
from pipeline.readers.kinds import extension, kind_of, names_picture, why_not
from schemas.config.job import InputConfig


@pytest.fixture
def without_extras(monkeypatch):
    """As where neither pillow-heif nor pydicom is installed."""
    absent = {"pillow_heif", "pydicom"}
    monkeypatch.setattr(kinds, "find_spec", lambda m: None if m in absent else find_spec(m))
    kinds.image_extensions.cache_clear()
    yield
    kinds.image_extensions.cache_clear()


@pytest.mark.parametrize(
    "suffix",
    [
        *(".avif", ".mpo", ".jp2", ".jxl", ".JPG", ".Tiff", ".svs", ".bif", ".scn", ".lsm", ".zif"),
        *(".apng", ".jif", ".jfi", ".jps", ".avifs", ".j2c", ".jpc", ".jph", ".ptif", ".ome.tif"),
    ],
)
def test_kinds_that_are_decoded_are_listed(suffix):
    assert kind_of(extension(f"a{suffix}")) == "folder"


def test_an_extra_that_is_missing_is_named(tmp_path, without_extras):
    for name in ("a.jpg", "b.heic", "c.HEIC", "d.dcm", "e.dng", "f.txt", "g.123456", "h.123457"):
        (tmp_path / name).write_bytes(b"x")
    reader = open_reader(InputConfig(uri=str(tmp_path)))
    assert [record.file_name for record in reader.list()] == ["a.jpg"]
    said = [(i.suffix, i.files, i.reason, i.picture) for i in reader.inventory.left_out]
    assert said == [
        (".dcm", 1, "install maskmill[dicom]", True),
        (".dng", 1, "camera raw is not read: develop it to TIFF or JPEG", True),
        (".heic", 2, "install maskmill[heif]", True),
        (".txt", 1, "not a picture", False),
        ("other suffixes", 2, "not a picture", False),
    ]


def test_no_kind_is_both_read_and_not():
    assert not set(kinds.IMAGE_EXTENSIONS) & set(kinds._NOT_READ)
    for suffix in kinds._NOT_READ:
        reason, picture = why_not(suffix)
        assert picture
        assert reason
        assert names_picture(suffix)
