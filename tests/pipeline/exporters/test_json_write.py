"""JSON text from Arrow columns, the files made of it, and reading them back."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.exporters.json_check import JsonLines, compare_entries, list_entries
from pipeline.exporters.json_write import (
    END,
    batches,
    concat,
    items,
    member,
    numbers,
    quoted,
    rle_escaped,
    write_list,
    write_object,
)
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(TEXT))
def test_any_text_is_quoted(texts):
    found = quoted(pa.array(texts, pa.string())).to_pylist()
    assert [json.loads(text) for text in found] == texts


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False) | st.none()))
def test_floats_read_back_as_the_same_float32(values):
    texts = numbers(pa.array(values, pa.float32())).to_pylist()
    again = [None if text is None else np.float32(json.loads(text)) for text in texts]
    assert again == [None if value is None else np.float32(value) for value in values]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_has_no_word_for_such_a_number(value):
    with pytest.raises(ValueError, match="not a finite number"):
        numbers(pa.array([0.5, value], pa.float32()))


def test_rle_strings_are_escaped_and_others_refused():
    escaped = rle_escaped(pa.array(["a\\b", "0\\\\"])).to_pylist()
    assert [json.loads(f'"{text}"') for text in escaped] == ["a\\b", "0\\\\"]
    for damaged in ('a"b', "a\nb", "é", "p"):
        with pytest.raises(ValueError, match="outside"):
            rle_escaped(pa.array(["ab", damaged]))


def test_missing_values_leave_the_member_out():
    values = numbers(pa.array([0.5, None], pa.float32()))
    assert concat("{", *member("s", values), "}").to_pylist() == ['{,"s":0.5}', "{}"]
    full = numbers(pa.array([1, 2]))
    assert concat("{", *member("s", full), "}").to_pylist() == ['{,"s":1}', '{,"s":2}']


def test_list_items_follow_a_slice():
    column = pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int32(), 2)).slice(1)
    assert [item.to_pylist() for item in items(column)] == [["3", "5"], ["4", "6"]]


def test_batches_are_bounded_in_text_and_keep_every_row():
    lengths = [10, 3 << 20, 5, 5, 1 << 20, 1 << 20, 7]
    wide = pa.table({"n": range(len(lengths)), "text": ["x" * length for length in lengths]})
    pieces = list(batches(wide, "text"))
    assert [n for piece in pieces for n in piece["n"].to_pylist()] == list(range(len(lengths)))
    for piece in pieces:
        assert len(piece) == 1 or sum(map(len, piece["text"].to_pylist())) <= 2 << 20
    many = pa.table({"n": range(20_000), "text": ["x"] * 20_000})
    assert max(len(piece) for piece in batches(many, "text")) <= 8_192
    assert sum(len(piece) for piece in batches(many, "text")) == 20_000


def entries(*values: object) -> pa.StringArray:
    return pa.array([json.dumps(value) + END for value in values], pa.string())


def test_an_object_is_written_entry_by_entry(tmp_path):
    uri = str(tmp_path / "deep" / "x.json")
    pieces = [entries(), entries({"a": 1}, 2).slice(1), entries(3, "ü")]
    head = {"info": {"k": "v"}, "none": []}
    written = write_object(Storage(), uri, head, {"x": pieces, "y": [], "z": [entries(7)]})
    assert written == {"x": 3, "y": 0, "z": 1}
    text = Path(uri).read_text("utf-8")
    assert json.loads(text) == {**head, "x": [2, 3, "ü"], "y": [], "z": [7]}
    assert text.count("\n") == 2 + 5 + 1 + 3  # one line an entry
    with open(uri, "rb") as file:
        lines = JsonLines(file, "x")
        assert lines.head == head
        assert list(lines.entries("x")) == [b"2", b"3", b'"\\u00fc"']
        assert list(lines.entries("y")) == []
        assert list(lines.entries("z")) == [b"7"]
    assert [path.name for path in Path(uri).parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize("values", [[], [1], [1, {"b": [2]}]])
def test_a_bare_list(tmp_path, values):
    uri = str(tmp_path / "x.json")
    assert write_list(Storage(), uri, [entries(*values)]) == len(values)
    assert json.loads(Path(uri).read_bytes()) == values
    with open(uri, "rb") as file:
        assert [json.loads(line) for line in list_entries(file)] == values


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    uri = tmp_path / "x.json"
    uri.write_text("old")

    def pieces():
        yield entries(*range(100_000))
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="no space left") as caught:
        write_list(Storage(), str(uri), pieces())
    assert "\n" not in str(caught.value)
    assert uri.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_an_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        write_list(Storage(), str(tmp_path / "file" / "x.json"), [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no list of images"),
        ('{"info":1}', "no list of images"),
        ('{"info":tru,\n"images":[]}\n', "malformed|expected|unexpected|invalid"),
    ],
)
def test_a_damaged_head_is_a_value_error(text, message):
    with pytest.raises(ValueError, match=message):
        JsonLines(io.BytesIO(text.encode()), "images")


def test_a_file_that_ends_early_is_a_value_error():
    lines = JsonLines(io.BytesIO(b'{"info":1,\n"images":[\n{"id":1},\n'), "images")
    with pytest.raises(ValueError, match="ends within 'images'"):
        list(lines.entries("images"))
    with pytest.raises(ValueError, match="ends within its list"):
        list(list_entries(io.BytesIO(b"[\n1,\n")))
    with pytest.raises(ValueError, match="one entry a line"):
        list(list_entries(io.BytesIO(b"[1,2]")))
    lines = JsonLines(io.BytesIO(b'{"info":1,\n"images":[],\n"labels":[]}\n'), "images")
    assert list(lines.entries("images")) == []
    with pytest.raises(ValueError, match="expected 'annotations', found \"labels\""):
        list(lines.entries("annotations"))


def differences(found: list[dict], expected: list[dict]) -> list[str]:
    said: list[str] = []
    lines = [json.dumps(item, separators=(",", ":")).encode() for item in found]
    due = [pa.array([json.dumps(x, separators=(",", ":")) + END for x in expected], pa.string())]
    compare_entries("rule", "image", lines, due, lambda rule, text: said.append(f"{rule} {text}"))
    return said


def test_differences_are_named_by_id():
    rows = [{"id": n, "v": 0} for n in (5, 3, 9, 7)]
    assert differences(rows, rows) == []
    assert differences([{**rows[0], "v": 1}, *rows[1:]], rows) == ["rule image 5 differs"]
    assert differences([rows[0], *rows[2:]], rows) == ["rule image 3 is missing"]
    assert differences(rows[:2], rows) == ["rule image 7 is missing", "rule image 9 is missing"]
    assert differences([*rows, {"id": 1}], rows) == ["rule image 1 is not in the dataset"]
    assert differences([rows[1], rows[0], *rows[2:]], rows) == [
        "rule image 3 is out of order or doubled"
    ]
    assert len(differences([rows[0], *rows], rows)) == 1
