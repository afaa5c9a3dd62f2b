import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from picture_datasets import picture_dataset, scene
from typer.testing import CliRunner

from jobs.measure import app

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    return CliRunner().invoke(app, [str(item) for item in arguments], env={"COLUMNS": "100"})


@pytest.fixture
def dataset(tmp_path):
    picture_dataset(tmp_path, {f"{n}.png": scene(n) for n in range(1, 5)})
    return tmp_path / "dataset"


def test_as_a_user_runs_it(dataset, tmp_path):
    (tmp_path / "input" / "2.png").write_bytes(b"no picture any more")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "jobs.measure", "--dataset", dataset, "--output"),
            *("objects.parquet", "--pixel-size", "0.5 um", "--workers", "2", "--json", "s.json"),
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "16 objects in 5 images (1 failed); pixel size known of 4" in done.stdout
    assert "1 × the picture cannot be decoded" in done.stdout
    assert "µm²" in done.stdout
    assert done.stdout.splitlines()[-2:] == [
        str(tmp_path / "objects.parquet"),
        str(tmp_path / "objects.images.parquet"),
    ]
    table = pq.ParquetFile(tmp_path / "objects.parquet").read()
    assert table.num_rows == 16
    assert table["intensity_mean"].null_count == 4
    summary = json.loads((tmp_path / "s.json").read_text("utf-8"))
    assert summary == json.loads((dataset / "report" / "measurements.json").read_text("utf-8"))


def test_quiet_and_without_pictures(dataset, tmp_path):
    output = tmp_path / "o.parquet"
    done = run(*("--dataset", dataset, "--output", output, "-q"), "--no-intensity", "--no-save")
    assert (done.exit_code, done.stdout) == (0, "")
    assert pq.ParquetFile(output).read()["intensity_mean"].null_count == 16
    assert not (dataset / "report").exists()


def test_comparing_two_datasets(dataset, tmp_path):
    picture_dataset(tmp_path / "b", {"1.png": scene(1), "2.png": scene(3)})
    output, figures = tmp_path / "changes.parquet", tmp_path / "changes.json"
    done = run(
        *("--compare", dataset, tmp_path / "b" / "dataset"),
        *("--output", output, "--json", figures),
    )
    assert done.exit_code == 0, done.output
    assert "2 images compared: 6 objects in A, 6 in B" in done.stdout
    assert "2 images are only in A: 3.png, 4.png" in done.stdout
    assert pq.ParquetFile(output).read().num_rows == 6
    result = json.loads(figures.read_text())
    assert result["overall"]["matched"] == 6
    lines = done.stdout.splitlines()
    cells = next(line for line in lines if line.split()[:1] == ["cell"])
    assert cells.split()[1:7] == ["4", "0", "0", "0", "0", "0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either --dataset OUT or --compare A B"),
        (("--dataset", "D", "--compare", "D", "D"), "either --dataset OUT or --compare A B"),
        (("--dataset", "D"), "--output FILE.parquet"),
        (("--dataset", "D", "--output", "x.txt"), ".parquet, .csv, .xlsx"),
        (("--dataset", "D", "--output", "x.parquet", "--pixel-size", "5"), "nm, um, mm"),
        (("--dataset", "nowhere", "--output", "x.parquet"), "no dataset of ours"),
        (("--compare", "D", "nowhere"), "no dataset of ours"),
        (("--compare", "D", "D", "--min-iou", "0"), "above 0"),
    ],
)
def test_bad_usage_is_one_line(dataset, arguments, message):
    done = run(*(dataset if word == "D" else word for word in arguments))
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
