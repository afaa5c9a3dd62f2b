"""Images in folders; the contract suite has the rest."""

from __future__ import annotations

import os
import shutil

import pytest

from pipeline.readers import open_reader
from schemas.config.job import InputConfig


def test_real_pictures(shared_data, tmp_path):
    photos = shared_data / "photos"
    reader = open_reader(InputConfig(uri=str(photos)))
    records = list(reader.list())
    files = sorted(p.relative_to(photos).as_posix() for p in photos.rglob("*") if p.is_file())
    assert [r.file_name for r in records] == [
        f for f in files if f.endswith((".jpg", ".jpeg", ".png"))
    ]
    for record in records[:5]:
        assert reader.read(record) == (photos / record.file_name).read_bytes()
        assert record.size == (photos / record.file_name).stat().st_size
        assert record.token == str((photos / record.file_name).stat().st_mtime_ns)
    shutil.copy(photos / records[0].file_name, tmp_path / "again.jpg")
    (again,) = open_reader(InputConfig(uri=str(tmp_path / "again.jpg"))).list()
    assert again.file_name == "again.jpg"


def test_a_link_that_leads_nowhere_is_an_image_that_cannot_be_read(tmp_path):
    os.symlink(tmp_path / "none", tmp_path / "a.jpg")
    reader = open_reader(InputConfig(uri=str(tmp_path)))
    (record,) = reader.list()
    assert (record.size, record.token) == (-1, "")
    with pytest.raises(OSError, match="no such file"):
        reader.read(record)


def test_a_folder_has_no_column(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="has no column 'image'"):
        open_reader(InputConfig(uri=str(tmp_path), column="image"))


def test_one_file_that_cannot_be_looked_into_stops_no_other(tmp_path):
    (tmp_path / "picture").write_bytes(b"\x89PNG")
    (tmp_path / "notes").write_bytes(b"hello")
    os.symlink("loop", tmp_path / "loop")
    os.symlink("nowhere", tmp_path / "lost")
    config = InputConfig(uri=str(tmp_path), any_suffix=True)
    reader = open_reader(config, is_picture=lambda start: start.startswith(b"\x89PNG"))
    assert [record.file_name for record in reader.list()] == ["picture"]
    said = {(item.suffix, item.reason): item.files for item in reader.inventory.left_out}
    assert said == {
        ("no extension", "it cannot be read"): 2,
        ("no extension", "not a picture by its content"): 1,
    }
