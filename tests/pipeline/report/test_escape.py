from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.escape import data_script, isolated, script_json, text


@given(st.text())
def test_script_json_reads_back_and_cannot_end_its_element(value):
    data = script_json({"name": value})
    assert json.loads(data) == {"name": value}
    assert not set(data) & set("<>&\u2028\u2029")


@pytest.mark.parametrize("value", ["</script><b>", "<!--", "\u2028", "a & b", "'\""])
def test_data_script_is_one_line_of_script(value):
    data = data_script("thumbs/0", [value]).decode()
    assert data.startswith('maskmillLoad("thumbs/0",')
    assert data.endswith(");\n")
    assert data.count("\n") == 1
    assert not set("<>&\u2028") & set(data)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.words += data


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\0")))
def test_text_comes_back_as_text(value):
    reader = _Reader()
    reader.feed(f"<p>{text(value)}{isolated(value)}</p>")
    reader.close()
    assert reader.tags == ["p", "bdi"]
    assert reader.words == value * 2
