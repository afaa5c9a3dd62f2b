"""Datasets of schema versions 1 to 3: every job reads them, and the next run brings them up."""

from __future__ import annotations

from pathlib import Path

import cv2
import pyarrow.parquet as pq
import pytest
from old_datasets import as_another_config, as_version
from otsu_jobs import otsu_job
from pictures import disc_picture, write_pictures

from pipeline.engine.run import label
from pipeline.evaluation.evaluate import evaluate
from pipeline.exporters import export_all
from pipeline.history.versions import open_version, roll_back
from pipeline.ledger.diff import diff_images
from pipeline.ledger.ledger import Ledger, open_ledger
from pipeline.measuring.measure import measure
from pipeline.report import write_report
from pipeline.storage.storage import Storage
from pipeline.validation.validate import validate
from schemas.manifest import SCHEMA_VERSION
from schemas.tables import schema_of

COUNT = 12
OLD_RUN = "0" * 32


@pytest.fixture(params=[1, 2, 3])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """A dataset in the layout of an earlier version, as its program left it."""
    write_pictures(tmp_path / "in", COUNT)
    label(otsu_job(tmp_path, task="panoptic"), export=False, report=False)
    ledger = open_ledger(str(tmp_path / "out"))
    as_version(ledger, request.param)
    as_another_config(open_ledger(ledger.uri), OLD_RUN)
    return open_ledger(ledger.uri)


def test_its_files_are_those_of_its_time(old: Ledger) -> None:
    version = old.manifest.schema_version
    assert version < SCHEMA_VERSION
    for table in ("images", "annotations"):
        for path in Path(old.uri, table).glob("*.parquet"):
            assert pq.read_schema(path).names == schema_of(table, version).names


def test_every_job_reads_it(old: Ledger, tmp_path: Path) -> None:
    assert sum(1 for _ in old.rows()) == COUNT
    export_all(old)
    report = validate(old.uri)
    assert not report.violations
    assert set(report.exports) == {"coco-instances", "coco-panoptic", "semantic-png"}
    truth = Path(old.uri, "exports", "coco", "instances.json")
    for given in (str(truth), old.uri):
        found = evaluate(dataset=old.uri, ground_truth=given)
        assert found
    measure(dataset=old.uri, output=str(tmp_path / "measures.parquet"))
    assert (
        pq.read_table(tmp_path / "measures.parquet").num_rows == old.manifest.counts["annotations"]
    )
    page = write_report(old, str(tmp_path / "report"))
    assert Path(page).stat().st_size > 10_000


def test_the_next_run_brings_it_up_and_keeps_the_old_version(old: Ledger, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "in" / "a" / "p000.png"), disc_picture(99))
    result = label(otsu_job(tmp_path, task="panoptic", history={"max_removed": 0.5}))
    assert (result.computed, result.reused) == (COUNT, 0)
    new = open_ledger(old.uri)
    assert (new.manifest.version, new.manifest.schema_version) == (2, SCHEMA_VERSION)
    report = validate(new.uri)
    assert not report.violations
    assert len(report.exports) == 3
    before = open_version(new.uri, 1, Storage())
    assert before.manifest.schema_version == old.manifest.schema_version
    counts = diff_images(before, new).counts
    assert (counts["changed"], counts["recomputed"]) == (1, COUNT - 1)
    assert result.since is not None
    assert result.since.counts == counts
    again = label(otsu_job(tmp_path, task="panoptic", history={"max_removed": 0.5}))
    assert (again.computed, again.new_version) == (0, False)


def test_an_old_version_can_be_shown_again(old: Ledger, tmp_path: Path) -> None:
    label(otsu_job(tmp_path, task="panoptic"), export=False, report=False)
    shown = roll_back(old.uri, 1, Storage())
    assert (shown.version, shown.schema_version) == (3, old.manifest.schema_version)
    assert shown.parts == old.manifest.parts
    assert not validate(old.uri).violations
