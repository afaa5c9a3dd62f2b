"""What an input URI names."""

from __future__ import annotations

import os
from collections import Counter
from itertools import islice

import braceexpand
import pytest

from pipeline.readers import EmptyInputError, open_reader
from pipeline.readers.inventory import Inventory
from pipeline.readers.kinds import IMAGE_EXTENSIONS, extension
from pipeline.readers.sources import _expand, find_sources
from pipeline.storage.errors import MissingError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.config.job import InputConfig


@pytest.fixture
def tree(tmp_path):
    for path in (
        "top.jpg",
        "a/1.jpg",
        "a/2.JPEG",
        "a/b/3.png",
        "a/b/c/4.webp",
        "x/5.jpg",
        "a/[odd] {1,2}.jpg",
        "a/notes.txt",
        "a/README",
        "a/.7.jpg",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    return tmp_path


def names(uri, **options):
    reader = open_reader(InputConfig(uri=str(uri), **options))
    return [record.file_name for record in reader.list()]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["top.jpg"]),
        ("*/*.jpg", ["a/1.jpg", "a/[odd] {1,2}.jpg", "x/5.jpg"]),
        ("**/[1-4].*", ["a/1.jpg", "a/2.JPEG", "a/b/3.png", "a/b/c/4.webp"]),
        ("a/**/*.png", ["b/3.png"]),
        ("a/?.jpg", ["1.jpg"]),
        ("a/[!1].JPEG", ["2.JPEG"]),
        ("a/{1,2}.*", ["1.jpg", "2.JPEG"]),
        ("{a,x}/{1..5}.jpg", None),
        ("{a/1,x/5}.jpg", ["a/1.jpg", "x/5.jpg"]),
        ("{x/5,a/*}.jpg", ["a/1.jpg", "a/[odd] {1,2}.jpg", "x/5.jpg"]),
        ("{top,top,t*}.jpg", ["top.jpg"]),
        ("a/[odd] {1,2}.jpg", ["[odd] {1,2}.jpg"]),  # a file that really has this name
        ("a/b", ["3.png", "c/4.webp"]),
        ("a/b/", ["3.png", "c/4.webp"]),
        ("a/1.jpg", ["1.jpg"]),
    ],
)
def test_patterns(tree, pattern, expected):
    if expected is None:  # a name in a list that is not there
        with pytest.raises(MissingError, match=r"no such file or folder: .*a/2.jpg"):
            names(tree / pattern)
    else:
        assert names(tree / pattern) == expected


def test_patterns_work_on_other_stores():
    store = Storage()
    for n in range(12):
        store.write(f"memory://patterns/d/train-{n:03d}.jpg", b"")
    reader = open_reader(InputConfig(uri="memory://patterns/d/train-{008..011}.jpg"), store)
    assert [r.file_name for r in reader.list()] == [f"train-{n:03d}.jpg" for n in range(8, 12)]
    reader = open_reader(InputConfig(uri="memory://patterns/*/train-00?.jpg"), store)
    assert len(list(reader.list())) == 10


@pytest.mark.parametrize(
    "text", ["{000..003}", "x{0..10}y{a,b,}", "{8..11}", "{08..11}", "plain", ""]
)
def test_braces_expand_as_webdataset_expands_them(text):
    assert _expand(text) == list(braceexpand.braceexpand(text))


def test_braces_that_name_too_much_are_refused(tree):
    with pytest.raises(ValueError, match=r"must name 1 to 100000 files"):
        names(tree / "{000000000..999999999}.tar")


def test_nothing_matches(tree):
    with pytest.raises(
        EmptyInputError, match=r"no images in .*: looked for .*; found no file at all"
    ):
        names(tree / "*.nothing")
    with pytest.raises(MissingError, match="no such file or folder"):
        names(tree / "gone" / "*.jpg")


def test_every_extension_counts_and_others_are_counted(tmp_path):
    for name in IMAGE_EXTENSIONS:
        (tmp_path / f"lower{name}").write_bytes(b"")
        (tmp_path / f"UPPER{name.upper()}").write_bytes(b"")
    for name in ("a.txt", "b.TXT", "Makefile", "x.tar.exe", "y.svg"):
        (tmp_path / name).write_bytes(b"")
    reader = open_reader(InputConfig(uri=str(tmp_path)))
    assert len(list(reader.list())) == 2 * len(IMAGE_EXTENSIONS)
    assert {item.suffix: item.files for item in reader.inventory.left_out} == {
        ".txt": 2, "no extension": 1, ".exe": 1, ".svg": 1
    }  # fmt: skip


def test_extensions():
    found = [extension(p) for p in ("a/b.v2.JPG", "a.b/c", ".hidden", "x.tar.gz", "a.tgz")]
    assert found == [".jpg", "no extension", "no extension", ".tar.gz", ".tgz"]


@pytest.mark.parametrize("other", ["b.tar", "b.parquet", "z.tgz"])
def test_a_mixed_folder_is_refused_unless_the_format_is_given(tmp_path, other):
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / other).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"a.jpg is folder, {other} is .*pass --input-format"):
        names(tmp_path)
    assert names(tmp_path, format="folder") == ["a.jpg"]


def test_the_output_inside_the_input_is_no_input(tmp_path):
    for path in ("a.jpg", "out/images/0.parquet", "out/exports/semantic/a.png", "outer.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    config = InputConfig(uri=str(tmp_path))
    reader = open_reader(config, exclude=[str(tmp_path / "out")])
    assert [record.file_name for record in reader.list()] == ["a.jpg", "outer.jpg"]
    assert not reader.inventory.left_out
    with pytest.raises(ValueError, match=r"the input is also the output"):
        open_reader(config, exclude=[str(tmp_path) + "/"])


def test_a_name_that_is_not_utf_8_is_escaped_and_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    with open(os.fsencode(tmp_path) + b"/caf\xe9.jpg", "wb") as file:
        file.write(b"2")
    (tmp_path / "real\\xe9.jpg").write_bytes(b"3")
    reader = open_reader(InputConfig(uri=str(tmp_path)))
    found = {record.file_name: reader.read(record) for record in reader.list()}
    assert found == {"a.jpg": b"1", "caf\\xe9.jpg": b"2", "real\\xe9.jpg": b"3"}


def test_detection_reads_no_further_than_it_must(monkeypatch):
    store = Storage()
    for n in range(30):
        store.write(join("memory://lazy", f"{n:02d}.{'txt' if n < 3 else 'jpg'}"), b"")
    seen = Counter()
    listing = Storage.pages

    def counting(self, *args, **kwargs):
        for page in listing(self, *args, **kwargs):
            for place in range(len(page.paths)):
                seen["entries"] += 1
                yield page.only([place])

    monkeypatch.setattr(Storage, "pages", counting)
    sources = find_sources("memory://lazy", store, guess=True)
    assert sources.kind() == "folder"
    assert seen["entries"] == 4
    assert len(list(islice(sources.files("folder", Inventory()), 5))) == 5
    assert seen["entries"] < 15
