import json

import pytest

from pipeline.evaluation.sources.categories import SYNONYMS, canonical, read_category_map


def test_ways_of_writing_one_name():
    assert canonical("Traffic_Light") == canonical("traffic  light") == canonical("traffic-light")
    for group in SYNONYMS:
        assert len({canonical(name) for name in group}) == 1
    assert len({canonical(group[0]) for group in SYNONYMS}) == len(SYNONYMS)
    assert canonical("toilet") != canonical("tv")


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', '"a"'])
def test_a_map_that_is_none(tmp_path, content):
    (tmp_path / "map.json").write_text(content)
    with pytest.raises(ValueError, match=r"map\.json"):
        read_category_map(str(tmp_path / "map.json"))


def test_a_map(tmp_path):
    (tmp_path / "map.json").write_text(json.dumps({"road": "7", "sky": "sky"}))
    assert read_category_map(str(tmp_path / "map.json")) == {"road": "7", "sky": "sky"}
