"""PNG names: inside their folder, distinct, and the ones that readers expect."""

from __future__ import annotations

import posixpath
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.exporters.png_folder import PngNames, named
from pipeline.storage.storage import Storage


@pytest.mark.parametrize(
    ("name", "png"),
    [
        ("a.jpg", "a.png"),
        ("a.png", "a.png"),
        ("a.v2.final.JPEG", "a.v2.final.png"),
        ("street/5.1/b.tif", "street/5.1/b.png"),
        ("no suffix", "no suffix.png"),
        (".hidden", ".hidden.png"),
        ("photos.tar/x/1.jpg", "photos.tar/x/1.png"),
        ("table.parquet/12", "table.parquet/12.png"),
        ("ü 'q' \"d\" \\ \n.jpg", "ü 'q' \"d\" \\ \n.png"),
        ("../../etc/passwd.jpg", "%../%../etc/passwd.png"),
        ("/abs/x.jpg", "%/abs/x.png"),
        ("a//./b.jpg", "a/%/%./b.png"),
        ("%/x.jpg", "%%/x.png"),
        ("a.png/b.jpg", "%a.png/b.png"),
    ],
)
def test_one_image(name, png):
    names = PngNames([name])
    assert names[name] == png
    assert png in names
    assert "another.png" not in names


def test_images_that_would_share_a_name_keep_their_suffixes():
    files = ["x/a.jpg", "x/a.png", "a.jpg", "b.jpg", "b", "c.jpg", "c.jpg.tif"]
    names = PngNames(files)
    assert [names[file] for file in files] == [
        "x/a.jpg.png",
        "x/a.png.png",
        "a.png",
        "b.jpg.png",
        "b.png",
        "c.png",
        "c.jpg.tif.png",
    ]
    assert all(names[file] in names for file in files)
    assert "x/a.png" not in names


def test_no_images():
    assert "a.png" not in PngNames([])


parts = st.sampled_from(["", ".", "..", "%", "%.", "a", "a.png", "a.jpg", "a.png.png", "b.jpg"])
paths = st.lists(parts, min_size=1, max_size=4).map("/".join)


@given(st.lists(paths, unique=True, max_size=30))
def test_names_are_distinct_stay_inside_and_fit_a_file_system(files):
    names = PngNames(files)
    pngs = [names[file] for file in files]
    assert len(set(pngs)) == len(files)
    folders = {folder for png in pngs for folder in parents(png)}
    for png in pngs:
        assert png in names
        assert posixpath.normpath(png) == png
        assert not png.startswith(("/", ".."))
        assert png not in folders  # no file where a folder must be


ALPHABETS = st.sampled_from(["a", "日", "é", "😀", "a日.", "\0b", "%~"])
long_parts = st.builds(
    lambda letters, count, end: (letters * count)[:count] + end,
    ALPHABETS,
    st.integers(1, 300),
    st.sampled_from(["", ".jpg", ".png", "x.jpg"]),
)
long_paths = st.lists(long_parts, min_size=1, max_size=6).map("/".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(long_paths, unique=True, min_size=1, max_size=8))
def test_every_name_can_be_written(files):
    names = PngNames(files)
    pngs = {file: names[file] for file in files}
    assert len(set(pngs.values())) == len(files)
    with tempfile.TemporaryDirectory() as folder:
        for file, png in pngs.items():
            assert png in names
            assert len(png.encode()) <= 1000  # an object store's keys have 1,024 bytes
            Storage().write(f"{folder}/{png}", file.encode())
        for file, png in pngs.items():
            assert Storage().read(f"{folder}/{png}") == file.encode()


def test_a_name_of_244_bytes_is_kept_and_a_longer_one_shortened():
    japanese = "日" * 80 + ".jpg"
    assert PngNames([japanese])[japanese] == "日" * 80 + ".png"
    full = "a" * 251 + ".jpg"
    assert PngNames([full])[full] == "a" * 251 + ".png"
    both = [full, "a" * 251 + ".png"]
    names = PngNames(both)
    assert all(len(names[one].encode()) <= 255 for one in both)
    assert names[both[0]] != names[both[1]]
    assert names[full].startswith("a" * 200)


def test_a_longer_ending_is_room_for_too():
    end = "_gtFine_labelIds.png"
    assert named("a/b.png", end) == "a/b_gtFine_labelIds.png"
    long = [named(f"x/{'a' * n}.png", end) for n in (235, 236, 250, 251)]
    assert len(set(long)) == 4
    assert all(len(name.removeprefix("x/")) <= 255 and name.endswith(end) for name in long)


def parents(path: str) -> set[str]:
    cut = path.split("/")
    return {"/".join(cut[:n]) for n in range(1, len(cut))}
