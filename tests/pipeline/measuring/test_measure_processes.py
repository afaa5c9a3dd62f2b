import os

import pytest

from pipeline.measuring import measure
from pipeline.measuring.measure import measure_parts, processors


def test_one_process_takes_one_part_at_a_time(monkeypatch):
    seen = []
    monkeypatch.setattr(measure, "measure_part", lambda spec, name, records: seen.append(name))
    work = iter([("a", {}), ("b", {})])
    results = measure_parts(None, work, workers=1)
    next(results)
    assert seen == ["a"]
    assert [*results] == [None]
    assert seen == ["a", "b"]


def die(spec, name, records):
    os._exit(1)


def test_a_process_that_dies_is_one_line(monkeypatch):
    monkeypatch.setattr(measure, "measure_part", die)
    with pytest.raises(OSError, match="a measuring process died"):
        list(measure_parts(None, [("a", {}), ("b", {})], workers=2))


def test_processors():
    assert 1 <= processors() <= os.cpu_count()
