"""The walk over a folder that holds what folders hold: circles, pipes, closed doors."""

from __future__ import annotations

import errno
import os
import socket
import time
from pathlib import Path

import pytest

from pipeline.readers import open_reader
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from pipeline.storage.walk import local_token, walk_folder
from schemas.config.job import InputConfig


@pytest.fixture
def odd(tmp_path):
    """A folder with one good picture and one of everything else."""
    (tmp_path / "a.jpg").write_bytes(b"picture")
    for name in ("notes", "x.jpg"):
        os.symlink(name, tmp_path / name)
    os.symlink("nowhere", tmp_path / "gone.jpg")
    os.symlink("a.jpg", tmp_path / "link.jpg")
    os.symlink(".", tmp_path / "self")
    os.mkfifo(tmp_path / "pipe.jpg")
    os.symlink("pipe.jpg", tmp_path / "pipe-link.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's path may have 107 bytes
        server.bind("socket.jpg")
        os.chdir(here)
        for name in (".hidden.jpg", "._a.jpg", "noext", ".git/x.jpg", "sub/b.jpg", "other/c.jpg"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"picture")
        os.symlink("../sub", tmp_path / "other/again")
        yield tmp_path


def test_everything_is_listed_or_counted(odd):
    reader = open_reader(InputConfig(uri=str(odd)))
    records = {record.file_name: record for record in reader.list()}
    assert list(records) == ["a.jpg", "gone.jpg", "link.jpg", "other/c.jpg", "sub/b.jpg", "x.jpg"]
    for name in ("a.jpg", "link.jpg", "other/c.jpg", "sub/b.jpg"):
        assert reader.read(records[name]) == b"picture"
    for name, said in (("gone.jpg", "no such file"), ("x.jpg", "go round in a circle")):
        assert records[name].size == -1
        with pytest.raises(StorageError, match=said):
            reader.read(records[name])
    again = "a link to a folder that is listed anyway"
    assert {(i.suffix, i.reason): i.files for i in reader.inventory.left_out} == {
        (".jpg", "hidden"): 1, (".jpg", "AppleDouble"): 1, (".jpg", "a named pipe"): 2,
        (".jpg", "a socket"): 1, ("folder", "hidden"): 1, ("folder", again): 2,
        ("no extension", "not a picture"): 2,
    }  # fmt: skip
    assert not reader.inventory.containers


def test_any_suffix_reads_what_looks_like_a_picture(odd):
    (odd / "data.bin").write_bytes(b"picture")
    (odd / "README").write_bytes(b"text")
    config = InputConfig(uri=str(odd), any_suffix=True)
    os.unlink(odd / "notes")
    reader = open_reader(config, is_picture=lambda start: start == b"picture")
    names = [record.file_name for record in reader.list()]
    assert {"noext", "data.bin", "a.jpg"} <= set(names)
    assert "README" not in names
    left = {(i.suffix, i.reason) for i in reader.inventory.left_out}
    assert ("no extension", "not a picture by its content") in left


def test_a_closed_folder_is_a_container_that_failed(tmp_path, monkeypatch):
    for name in ("a/1.jpg", "b/2.jpg", "c/3.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    scandir = os.scandir

    def refuse(path):
        if str(path).rstrip("/").endswith("/b"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    reader = open_reader(InputConfig(uri=str(tmp_path)))
    assert [record.file_name for record in reader.list()] == ["a/1.jpg", "c/3.jpg"]
    (closed,) = reader.inventory.containers
    assert (closed.status, closed.reason, closed.images) == ("failed", "permission denied", 0)
    assert closed.uri == f"{tmp_path}/b"
    with pytest.raises(StorageError, match="permission denied"):  # nobody is told: it is an error
        list(Storage().list(str(tmp_path)))


def test_a_disk_that_fails_stops_the_listing(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    scandir = os.scandir

    def fail(path):
        if str(path).rstrip("/").endswith("/a"):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(StorageError, match="Input/output error"):  # its images are not gone
        list(open_reader(InputConfig(uri=str(tmp_path), format="folder")).list())


def test_pages_are_in_the_order_of_paths(tmp_path):
    names = ["a.b", "a/b", "a/b.c/d", "a/bb", "a0", "Z", "é", "日"] + [
        f"n/{n:05d}" for n in range(9000)
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode()[:3])
    pages = list(walk_folder(Path(tmp_path)))
    assert [path for page in pages for path in page.paths] == sorted(names)
    assert max(len(page.paths) for page in pages) == 4096
    for path, size, token in zip(*pages[0], strict=True):
        info = (tmp_path / path).stat()
        assert (size, token) == (info.st_size, str(info.st_mtime_ns))


def test_a_file_of_this_second_is_looked_at_again_where_clocks_are_coarse() -> None:
    second = 1_000_000_000
    now = time.time_ns()
    assert local_token(now // second * second) != local_token(now // second * second)
    for steady in (now // second * second - 5 * second, now // second * second + 1):
        assert local_token(steady) == str(steady)
