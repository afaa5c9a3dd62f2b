import gzip
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.sources import json_file
from pipeline.evaluation.sources.json_file import JsonFile
from pipeline.storage.storage import Storage

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(alphabet='ab"\\{}[],:\né'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\', max_size=2), inner),
    max_leaves=8,
)
ENTRIES = st.dictionaries(st.text('xy"\\}', max_size=3), VALUES, max_size=4)


def opened(folder, text):
    path = folder / "file.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return JsonFile(str(path), Storage())


def entries(file, name=""):
    return [item for batch in file.batches(file.spans(name)) for item in batch]


@given(
    data=st.fixed_dictionaries(
        {"list": st.lists(ENTRIES), "keyed": st.dictionaries(st.text('k"\\'), ENTRIES), "n": VALUES}
    ),
    indent=st.sampled_from([None, 1]),
    block=st.sampled_from([7, 64, 1 << 22]),
)
def test_reads_what_json_reads(tmp_path_factory, data, indent, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_file, "_BLOCK", block)
        text = json.dumps(data, indent=indent, ensure_ascii=False)
        file = opened(tmp_path_factory.mktemp("json"), text)
        assert file.root == "object"
        assert [item for _, item in entries(file, "list")] == data["list"]
        assert dict(entries(file, "keyed")) == data["keyed"]
        if not isinstance(data["n"], dict | list):
            assert file.small == {"n": data["n"]}
        copy = pickle.loads(pickle.dumps(file))
        spans = copy.spans("list")
        assert copy.read(spans.starts, spans.ends) == data["list"]
        assert copy.read(spans.starts[1::2], spans.ends[1::2]) == data["list"][1::2]
        whole = opened(tmp_path_factory.mktemp("json"), json.dumps(data["list"], indent=indent))
        assert (whole.root, [item for _, item in entries(whole)]) == ("list", data["list"])


def test_nan_and_long_numbers_stay_what_they_are(tmp_path):
    file = opened(tmp_path, '{"a": [{"id": 36893488147419103233, "area": NaN}]}')
    ((_, item),) = next(file.batches(file.spans("a"), whole=("id",)))
    assert item["id"] == 36893488147419103233
    assert np.isnan(item["area"])


def test_a_byte_order_mark_is_none_of_the_text(tmp_path):
    file = opened(tmp_path, b"\xef\xbb\xbf" + b'{"a": [{"b": 1}]}')
    assert entries(file, "a") == [(None, {"b": 1})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "ends within a list or an object: is it cut off"),
        (b'{"a": [{"b": "c', "ends within a string"),
        (b'{"a": [{"b": 1}]} {"c": []}', "something follows after byte 17"),
        (b'{"a": 1}\n{"a": 2}\n', "are these JSON lines?"),
        (b'[{"a": 1}] x', "something stands after byte 10"),
        (b'{"a": [}]', "is not JSON"),
        (b'{"a" [{"b": 1}]}', "is not JSON"),
        ('{"a": 1}'.encode("utf-16"), "looks like UTF-16"),
        (gzip.compress(b"{}", mtime=0), "compressed by gzip"),
        (b"nonsense", "is not JSON"),
    ],
)
def test_what_is_not_json_is_one_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        entries(opened(tmp_path, text), "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("block", [3, 1 << 22])
@pytest.mark.parametrize(
    ("text", "due"),
    [
        ('{"a": [{"b": 1}, 5]}', [(None, {"b": 1}), (None, 5)]),
        ('{"a": [null, {}, "x" ]}', [(None, None), (None, {}), (None, "x")]),
        ('{"a": {"1": "cat", "2": {}, "3": null}}', [("1", "cat"), ("2", {}), ("3", None)]),
        ('{"a": [1]}', [(None, 1)]),
        ('{"a": [ ]}', []),
    ],
)
def test_entries_that_are_no_objects_are_given_too(tmp_path, monkeypatch, text, due, block):
    monkeypatch.setattr(json_file, "_BLOCK", block)
    assert entries(opened(tmp_path, text), "a") == due


@pytest.mark.parametrize("text", ['{"a": [{"b": 1} {"b": 2}]}', '{"a": [{"b": 1},]}', '{"a": [,]}'])
def test_entries_stand_between_commas(tmp_path, text):
    with pytest.raises(ValueError, match="is not JSON"):
        entries(opened(tmp_path, text), "a")


def test_a_key_that_stands_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a key stands twice"):
        entries(opened(tmp_path, '{"a": {"1": {}, "1": {}}}'), "a")
