"""`jobs.label --set augment.copies=N` as a user runs it."""

from pathlib import Path

import pytest
from pictures import write_pictures
from typer.testing import CliRunner

from jobs.label import app
from pipeline.ledger.ledger import open_ledger


def run(folder: Path, *more: str) -> str:
    config = folder / "job.toml"
    config.write_text('[split]\nval = 0.2\n[augment]\nsteps = [ { step = "rotate" } ]\n')
    arguments = ["--input", str(folder / "in"), "--output", str(folder / "out"), "--model", "otsu"]
    arguments += ["--config", str(config), "--set", "execution.inline=true", "--no-report", *more]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code in (0, 2), done.output
    return done.output


def test_copies_come_from_the_command_line(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 10)
    said = run(tmp_path, "--set", "augment.copies=2")
    counts = open_ledger(str(tmp_path / "out")).manifest.counts
    assert "10 images (10 computed, 0 reused, 0 unchanged)" in said
    assert f"and {counts['copies']} augmented copies" in said
    assert counts["images"] == 10 + counts["copies"]
    assert "nothing changed: 10 images" in run(tmp_path, "--set", "augment.copies=2")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("augment.copy=2", ["augment.copy", "copies"]),
        ("augment.splits=trian", ["augment.splits", "'train'"]),
        ("split.test=0.9", ["split", "add up to 1"]),
    ],
)
def test_a_slip_is_told_before_the_first_picture(
    tmp_path: Path, setting: str, words: list[str]
) -> None:
    write_pictures(tmp_path / "in", 1)
    said = run(tmp_path, "--set", setting)
    for word in words:
        assert word in said
    assert not (tmp_path / "out").exists()
