"""Layers of a config: file, then --set, then flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.config.layers import layered


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(
        'output = "from-file"\n[model]\nname = "file"\nthreshold = 0.1\n[input]\nuri = "in"\n'
    )
    return path


def test_later_layers_win_and_keep_the_rest(file: Path) -> None:
    data = layered(
        file,
        ["model.threshold=0.2", "model.min_area=5", "output=from-set"],
        {"model.name": "flag", "output": None, "execution.workers": 0},
    )
    assert data == {
        "output": "from-set",
        "model": {"name": "flag", "threshold": 0.2, "min_area": 5},
        "input": {"uri": "in"},
        "execution": {"workers": 0},  # 0 and False are given, None is not
    }


def test_the_last_set_wins() -> None:
    assert layered(None, ["a.b=1", "a.b=2"], {}) == {"a": {"b": 2}}
    assert layered(None, [], {}) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("0.25", 0.25),
        ("1e-3", 1e-3),
        ("true", True),
        ("True", "True"),
        ('"3"', "3"),
        ("'a b'", "a b"),
        ("5%", "5%"),
        ("any", "any"),
        ("s3://bucket/key=1", "s3://bucket/key=1"),
        ("a=b", "a=b"),
        ('["x", "y"]', ["x", "y"]),
        ("[x", "[x"),
        ("", ""),
        ("/data/ünï", "/data/ünï"),
    ],
)
def test_values_are_toml_or_words(text: str, value: object) -> None:
    found = layered(None, [f" key = {text} "], {})["key"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["novalue", "=1", "  =1", ""])
def test_a_set_needs_a_key(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected section\.key=value"):
        layered(None, [text], {})


def test_a_value_is_no_section() -> None:
    with pytest.raises(ValueError, match=r"model\.name: 'model' is a value, not a section"):
        layered(None, ["model=otsu"], {"model.name": "otsu"})
    with pytest.raises(ValueError, match="'b' is a value"):
        layered(None, ["a.b=1", "a.b.c=2"], {})


def test_a_section_can_be_replaced_as_a_whole() -> None:
    assert layered(None, ["a.b=1", "a={c = 2}"], {}) == {"a": {"c": 2}}


def test_files_that_cannot_be_read_are_named_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[model\nname = 1")
    latin = tmp_path / "latin.toml"
    latin.write_bytes('output = "ü"'.encode("latin-1"))
    double = tmp_path / "double.toml"
    double.write_text("[model]\nname = 1\n[model]\n")
    for path in (tmp_path / "missing.toml", tmp_path, broken, latin, double):
        with pytest.raises(ValueError, match="config") as caught:
            layered(path, [], {})
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
