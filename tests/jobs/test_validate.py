from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_datasets import small_dataset
from typer.testing import CliRunner

from jobs.validate import app
from pipeline.exporters import export_all


def run(*words: str):
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def ledger(tmp_path):
    made = small_dataset(tmp_path / "data")
    export_all(made)
    return made


def test_a_valid_dataset_is_exit_0(ledger):
    result = run("--dataset", ledger.uri)
    assert result.exit_code == 0
    assert result.stdout == (
        f"{ledger.uri} version 1: 9 images, 50 annotations, "
        "exports: coco-instances, coco-panoptic, semantic-png: valid\n"
    )
    assert "validating: 3 of 3 parts" in result.stderr


def test_damage_is_exit_1_with_the_offenders(ledger, tmp_path):
    png = Path(ledger.uri, "exports", "semantic", "plain.png")
    png.unlink()
    report = tmp_path / "report" / "found.json"
    result = run("--dataset", ledger.uri, "--json", str(report), "-q")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:2] == [
        "export-png-missing: 1 (every image that was looked at has its PNG)",
        "  plain.png",
    ]
    assert result.stdout.endswith(": 1 rules broken\n")
    data = json.loads(report.read_bytes())
    assert data["ok"] is False
    assert [item["rule"] for item in data["violations"]] == ["export-png-missing"]
    assert data["violations"][0]["examples"] == ["plain.png"]
    assert run("--dataset", ledger.uri, "--no-exports", "-q").exit_code == 0


def test_a_name_with_a_newline_stays_on_its_line(ledger):
    Path(ledger.uri, "exports", "semantic", "new\nline\tand tab.png").unlink()
    result = run("--dataset", ledger.uri, "-q")
    assert result.stdout.splitlines()[1] == r"  'new\nline\tand tab.png'"


def test_more_than_twenty_are_counted(ledger):
    part = Path(ledger.uri, "images", f"{ledger.manifest.parts[0].name}.parquet")
    pngs = Path(ledger.uri, "exports", "semantic")
    for number in range(25):
        (pngs / f"stray{number:02d}.png").write_bytes(b"")
    result = run("--dataset", ledger.uri, "-q")
    assert "  … and 5 more" in result.stdout.splitlines()
    pq.write_table(pq.read_table(part), part, compression="none")
    assert "exports: none checked: 1 rules broken" in run("--dataset", ledger.uri, "-q").stdout


def test_no_dataset_is_one_line_and_exit_2(tmp_path):
    result = run("--dataset", str(tmp_path / "nothing"), "-q")
    assert result.exit_code == 2
    assert "holds no dataset of ours" in result.stderr
    assert result.stderr.count("\n") == 1
