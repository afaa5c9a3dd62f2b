"""Atomic local writes and the ordered walk, on a real file system."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage import local
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage

STORE = Storage()


def listed(root, **options):
    return [entry.path for entry in STORE.list(str(root), **options)]


def fail(number):
    def raise_it(*_, **__):
        raise OSError(number, os.strerror(number))

    return raise_it


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "no space left on the device"), (errno.EDQUOT, "quota"), (errno.EIO, "rror")],
)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_bytes_and_leaves_nothing(
    tmp_path, monkeypatch, step, number, said
):
    path = tmp_path / "f"
    STORE.write(str(path), b"old")
    monkeypatch.setattr(os, step, fail(number))
    with pytest.raises(StorageError, match=f"{said}.*") as caught:
        STORE.write(str(path), b"new")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as reader:
        STORE.write(str(path), b"figures")
        assert reader.communicate(timeout=20)[0] == b"figures"
    assert path.is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "f"
    texts = [bytes([n]) * 200_000 for n in range(2)]
    STORE.write(str(path), texts[0])
    code = (
        "import sys; from pipeline.storage.storage import Storage\n"
        "for n in range(150): Storage().write(sys.argv[1], bytes([n % 2]) * 200_000)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as writer:
        while writer.poll() is None:
            assert path.read_bytes() in texts
    assert writer.returncode == 0


def test_a_killed_writer_leaves_only_what_no_listing_shows(tmp_path):
    code = (
        "import os, sys; from pipeline.storage.storage import Storage\n"
        "os.fsync = lambda _: (print('writing', flush=True), __import__('time').sleep(60))\n"
        "Storage().write(sys.argv[1], b'image')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.jpg")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.kill()
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".a.jpg.")
    assert left.endswith(".tmp")
    assert listed(tmp_path) == []
    STORE.write(str(tmp_path / "a.jpg"), b"whole")
    assert listed(tmp_path) == ["a.jpg"]
    assert listed(tmp_path, hidden=True) == [left, "a.jpg"]


def test_creation_without_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", fail(errno.EPERM))
    assert STORE.create(str(tmp_path / "f"), b"1")
    assert not STORE.create(str(tmp_path / "f"), b"2")
    assert (tmp_path / "f").read_bytes() == b"1"
    assert os.listdir(tmp_path) == ["f"]


def test_publishing_across_file_systems(tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_bytes(b"1")
    replace = os.replace

    def across(a, b):
        if os.fspath(a) == os.fspath(source):
            raise OSError(errno.EXDEV, "another file system")
        replace(a, b)

    monkeypatch.setattr(os, "replace", across)
    local.publish_file(source, tmp_path / "to" / "target")
    assert (tmp_path / "to" / "target").read_bytes() == b"1"
    assert os.listdir(tmp_path / "to") == ["target"]
    assert not source.exists()


def test_files_get_the_permissions_that_the_umask_leaves(tmp_path):
    umask = os.umask(0o027)
    try:
        STORE.write(str(tmp_path / "f"), b"1")
    finally:
        os.umask(umask)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_what_is_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for uri, said in [("file/x", "a file is in the way"), ("file/x/y", "not a folder")]:
        with pytest.raises(StorageError, match=said):
            STORE.write(str(tmp_path / uri), b"1")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="a folder, not a file"):
        STORE.read(str(tmp_path / "folder"))
    with pytest.raises(StorageError, match=r"cannot write: .*file"):
        STORE.check_writable(str(tmp_path / "file" / "out"))


def test_an_unreadable_folder_stops_the_listing(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"")
    scandir = os.scandir

    def refuse(path):
        if str(path).rstrip("/").endswith("/a"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match=f"permission denied: {tmp_path}/a"):
        listed(tmp_path)


def test_links(tmp_path):
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    for path in (outside / "deep", root / "real", root / ".store"):
        path.mkdir(parents=True)
    (outside / "deep" / "o.jpg").write_bytes(b"o")
    (root / "real" / "r.jpg").write_bytes(b"r")
    (root / ".store" / "s.jpg").write_bytes(b"s")
    (root / "file.jpg").symlink_to(outside / "deep" / "o.jpg")
    (root / "broken.jpg").symlink_to(outside / "none")
    (root / "again").symlink_to(root / "real")  # listed under its real name only
    (root / "loop").symlink_to(root)
    (root / "up").symlink_to(tmp_path)
    (root / "kept").symlink_to(root / ".store")  # what it leads to is not listed otherwise
    (root / "other").symlink_to(outside)
    (root / "other2").symlink_to(outside)
    (outside / "back").symlink_to(root)
    (outside / "round").symlink_to(outside)
    entries = list(STORE.list(str(root)))
    assert [entry.path for entry in entries] == [
        "broken.jpg",
        "file.jpg",
        "kept/s.jpg",
        "other/deep/o.jpg",
        "real/r.jpg",
    ]
    assert [entry.size for entry in entries] == [-1, 1, 1, 1, 1]
    assert entries[0].token == ""


def test_only_regular_files_are_listed(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "a.jpg").write_bytes(b"")
    start = time.monotonic()
    assert listed(tmp_path) == ["a.jpg"]
    assert time.monotonic() - start < 5


NAMES = st.text("ab.-/0é", min_size=1, max_size=8).filter(
    lambda path: all(part and not part.startswith(".") for part in path.split("/"))
)


@given(paths=st.sets(NAMES, max_size=12))
def test_any_tree_is_listed_in_the_order_of_its_paths(tmp_path_factory, paths):
    root = tmp_path_factory.mktemp("tree")
    made = set()
    for path in sorted(paths):
        if not any(other.startswith(path + "/") or path.startswith(other + "/") for other in made):
            STORE.write(str(root / path), b"")
            made.add(path)
    assert listed(root) == sorted(made)
