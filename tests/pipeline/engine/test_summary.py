"""run.json and run.prom: of the last run, with the speed of the last that computed something."""

from __future__ import annotations

from pathlib import Path

import pytest
from pictures import write_pictures
from prometheus_client.parser import text_string_to_metric_families

from pipeline import label
from pipeline.engine.summary import FILE, METRICS_FILE, PhaseClock, read_summary
from pipeline.storage.storage import Storage
from schemas.config.job import JobConfig


@pytest.mark.parametrize("text", [None, "", "[]", "{", "[" * 9999])
def test_a_damaged_one_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / FILE).write_text(text)
    assert read_summary(Storage(), str(tmp_path)) == {}


def test_phases_add_up_also_when_they_fail() -> None:
    clock = PhaseClock()
    for _ in range(2):
        with pytest.raises(ValueError, match="x"), clock.phase("label"):
            raise ValueError("x")
    assert list(clock.seconds) == ["label"]
    assert clock.seconds["label"] >= 0


def test_prometheus_reads_the_same_figures(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 3)
    (tmp_path / "in" / 'br"o\\ken.jpg').write_bytes(b"\xff\xd8\xff")
    out = tmp_path / "out"
    settings = {"input": {"uri": str(tmp_path / "in")}, "model": {"name": "otsu"}}
    config = JobConfig.parse({**settings, "output": str(out), "max_failures": "any"})
    result = label(config, export=False, report=False)
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families((out / METRICS_FILE).read_text())
        for sample in family.samples
    }
    assert {key[1] for key in told} == {result.dataset}
    by_status = {key[2]: value for key, value in told.items() if key[0] == "maskmill_images"}
    assert by_status == result.manifest.counts
    assert told["maskmill_images_failed", result.dataset, "truncated"] == 1
    assert told["maskmill_images_computed", result.dataset] == 4
    assert told["maskmill_version", result.dataset] == 1
