"""Headline counts are of what was found: background, the remainder of a picture, is not in them."""

from __future__ import annotations

import re
from pathlib import Path

from pictures import disc_picture
from PIL import Image
from typer.testing import CliRunner

from jobs.label import app
from jobs.validate import app as validate_app
from pipeline.ledger.ledger import open_ledger


def test_terminal_and_report_leave_background_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for seed in range(3):
        Image.fromarray(disc_picture(seed, size=96, discs=3)).save(tmp_path / f"in/{seed}.png")
    words = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--inline"]
    result = CliRunner().invoke(app, [*words, "--model", "unet-nuclei", "--task", "panoptic"])
    assert result.exit_code == 0, result.output
    ledger = open_ledger(str(tmp_path / "out"))
    rows = [item for _, items in ledger.rows() for item in items]
    things = sum(item["isthing"] for item in rows)
    assert 0 < things < len(rows) == ledger.manifest.counts["annotations"]
    assert f"; {things} segments" in result.output
    page = (tmp_path / "out/report/index.html").read_text("utf-8")
    assert re.search(rf"<dt>Segments</dt><dd>{things}\b", page)
    assert re.search(r"<dt>Categories</dt><dd>1</dd>", page)


def test_stale_files_are_warned_of_and_break_no_rule(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(disc_picture(1)).save(tmp_path / "in/a.png")
    words = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--inline"]
    assert CliRunner().invoke(app, [*words, "--model", "otsu", "--no-report"]).exit_code == 0
    (part,) = (tmp_path / "out/annotations").iterdir()
    part.with_name("00-dead.parquet").write_bytes(part.read_bytes())
    result = CliRunner().invoke(validate_app, ["--dataset", str(tmp_path / "out"), "-q"])
    assert result.exit_code == 0
    assert "warning: 1 files in images/ and annotations/ belong to no part" in result.output
