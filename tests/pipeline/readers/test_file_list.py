"""Lists of images: lines, tables, JSON; local, remote and over HTTP."""

from __future__ import annotations

import json

import pytest

from pipeline.readers import open_reader
from pipeline.storage.errors import MissingError, StorageError
from pipeline.storage.storage import Storage
from schemas.config.job import InputConfig


@pytest.fixture
def pictures(tmp_path):
    for name in ("a.jpg", "sub/b b.png", "c", "日.jpg"):
        Storage().write(str(tmp_path / "pictures" / name), name.encode())
    (tmp_path / "lists").mkdir()
    return tmp_path


def images(uri, storage=None, **options):
    """file name → bytes or what was said; and the reader."""
    reader = open_reader(InputConfig(uri=str(uri), **options), storage)
    found = {}
    for record in reader.list():
        try:
            found[record.file_name] = reader.read(record)
        except StorageError as error:
            found[record.file_name] = str(error)
    return found, reader


def test_lines(pictures):
    there = pictures / "pictures"
    Storage().write("memory://lists/far.jpg", b"far")
    path = there / "some.txt"
    path.write_bytes(
        b"\xef\xbb\xbfa.jpg\r\n# a comment\r\n\r\n  sub/b b.png \r\n./sub/../c\n"
        + f"{there}/日.jpg\nmemory://lists/far.jpg\na.jpg\nmore.tar\n".encode()
    )
    found, reader = images(path)
    assert found == {
        "a.jpg": b"a.jpg", "sub/b b.png": b"sub/b b.png", "c": b"c", "日.jpg": "日.jpg".encode(),
        "lists/far.jpg": b"far",
    }  # fmt: skip
    assert {(i.suffix, i.reason): i.files for i in reader.inventory.left_out} == {
        (".jpg", "named twice"): 1,
        (".tar", "holds pictures, but another kind of input is read"): 1,
    }
    assert [(c.status, c.images) for c in reader.inventory.containers] == [("ok", 5)]


def test_names_outside_the_lists_folder_are_whole_paths(pictures):
    path = pictures / "lists" / "l.txt"
    path.write_text("../pictures/a.jpg\n../pictures/gone.jpg\n")
    found, _ = images(path)
    prefix = str(pictures / "pictures").lstrip("/")
    assert found[f"{prefix}/a.jpg"] == b"a.jpg"
    assert "no such file" in found[f"{prefix}/gone.jpg"]
    (record, _) = open_reader(InputConfig(uri=str(path))).list()
    (pictures / "pictures" / "a.jpg").write_bytes(b"another")
    (again, _) = open_reader(InputConfig(uri=str(path))).list()
    assert (record.size, again.size) == (5, 7)
    assert record.token != again.token


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("l.csv", 'n,file_name\n1,a.jpg\n2,"sub/b b.png"\n', {}),
        ("l.csv", "n,file_name\n1,a.jpg\n2,sub/b b.png\n", {"column": "file_name"}),
        ("l.csv", "n,what\n1,a.jpg\n2,sub/b b.png\n", {"column": "what"}),
        ("l.csv", "a.jpg\nsub/b b.png\n", {}),
        ("l.tsv", "path\tn\na.jpg\t1\nsub/b b.png\t2\n", {}),
        ("l.jsonl", '"a.jpg"\n"sub/b b.png"\n', {}),
        ("l.jsonl", '{"image": "a.jpg"}\n{"image": "sub/b b.png"}\n', {}),
        ("l.jsonl", '{"x": "a.jpg", "path": "no"}\n{"x": "sub/b b.png"}\n', {"column": "x"}),
        ("l.list", "a.jpg\nsub/b b.png\n", {"format": "list"}),
        ("l.txt", "\"a.jpg\"\n'sub/b b.png'\n", {}),
        ("l.txt", "a.jpg\nsub/b%20b.png\n", {}),
        ("l.txt", "a.jpg\nsub\\b b.png\n", {}),
        ("l.csv", "n;Path\n1;a.jpg\n2;sub/b b.png\n", {}),
        ("l.csv", "n;what\n1;a.jpg\n2;sub/b b.png\n", {"column": "what"}),
        ("l.csv", "n\timage\n1\ta.jpg\n2\tsub/b b.png\n", {}),
        ("l.csv", "sep=;\nfile;n\na.jpg;1\nsub/b b.png;2\n", {}),
        ("l.csv", "a.jpg;1\nsub/b b.png;2\n", {}),
        ("l.jsonl", '{"image": {"path": "a.jpg"}}\n{"image": "sub/b b.png"}\n', {}),
    ],
)
def test_tables_and_json(pictures, name, text, options):
    path = pictures / "pictures" / name
    path.write_text(text)
    found, _ = images(path, **options)
    assert found == {"a.jpg": b"a.jpg", "sub/b b.png": b"sub/b b.png"}


def test_a_row_without_a_uri_is_an_image_that_says_so(pictures):
    path = pictures / "pictures" / "l.csv"
    path.write_text("file,n\na.jpg,1\n,2\n")
    found, _ = images(path)
    assert found == {"a.jpg": b"a.jpg", "l.csv/00000002": "this row has no URI"}
    path = pictures / "pictures" / "l.jsonl"
    path.write_text('{"file": "a.jpg"}\n{"file": null}\n')
    found, _ = images(path)
    assert found == {"a.jpg": b"a.jpg", "l.jsonl/00000001": "this row has no URI"}


def test_a_broken_line_never_stops_the_rest(pictures):
    path = pictures / "pictures" / "l.jsonl"
    path.write_text('{"path": "a.jpg"}\n{"path": \n{"other": 1}\n{"path": "c"}\n')
    found, reader = images(path)
    assert list(found) == ["a.jpg", "c"]
    (container,) = reader.inventory.containers
    assert (container.status, container.images) == ("partial", 2)
    assert "line 2: " in container.reason
    assert "line 3: no path or file_name or filename in it" in container.reason


def test_what_is_missing_is_named(pictures):
    path = pictures / "lists" / "l.csv"
    path.write_text("first,second\n1,2\n")
    with pytest.raises(ValueError, match="which of its columns first, second names the images"):
        images(path)
    with pytest.raises(ValueError, match="it has no column 'third'; it has first, second"):
        images(path, column="third")
    path.write_text("")
    with pytest.raises(ValueError, match=r"l\.csv: it names no image"):
        images(path)
    with pytest.raises(MissingError):
        images(pictures / "gone.txt")


def test_json_lines_may_be_long(pictures):
    path = pictures / "pictures" / "l.jsonl"
    path.write_text("".join(json.dumps({"url": "a.jpg", "n": n}) + "\n" for n in range(1000)))
    found, reader = images(path)
    assert list(found) == ["a.jpg"]
    assert reader.inventory.left_out[0].files == 999


@pytest.mark.parametrize("code", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_ways_of_windows(pictures, code, end):
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(code, b"")
    path = pictures / "pictures" / "l.txt"
    path.write_bytes(mark + f"a.jpg{end}日.jpg{end}".encode(code))
    assert list(images(path)[0]) == ["a.jpg", "日.jpg"]


def test_another_encoding_is_told(pictures):
    path = pictures / "pictures" / "l.txt"
    path.write_bytes("a.jpg\nü.jpg\n".encode("latin-1"))
    with pytest.raises(ValueError, match="line 2 is not UTF-8"):
        images(path)


def test_names_that_look_encoded_or_quoted_are_taken_as_they_are(pictures):
    names = ["b%20b.png", "semi;colon.png", "back\\slash.png", "~b.png", "it's.png", "a\u2028b.png"]
    for name in names:
        (pictures / "pictures" / name).write_bytes(b"x")
    path = pictures / "pictures" / "l.txt"
    path.write_text("\n".join(names))
    assert images(path)[0] == dict.fromkeys(names, b"x")
    path = pictures / "pictures" / "l.csv"
    path.write_text("\n".join(names[1:]))
    assert images(path)[0] == dict.fromkeys(names[1:], b"x")


def test_a_file_uri_is_decoded(pictures):
    path = pictures / "lists" / "l.txt"
    folder = pictures / "pictures"
    path.write_text(f"file://{folder}/sub/b%20b.png\nfile://{folder}/%E6%97%A5.jpg\n")
    assert list(images(path)[0].values()) == [b"sub/b b.png", "日.jpg".encode()]
