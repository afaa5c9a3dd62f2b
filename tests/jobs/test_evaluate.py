import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.evaluate import app
from pipeline.ledger.ledger import write_dataset
from pipeline.masks import codec
from schemas.categories import Categories, Category
from schemas.records import ImageRecord, Segment, Segmentation

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    return CliRunner().invoke(app, [str(item) for item in arguments])


@pytest.fixture
def sides(tmp_path):
    """A dataset with two objects, of which the truth knows one and a second elsewhere."""
    label_map = np.zeros((40, 50), np.uint16)
    label_map[2:12, 2:12], label_map[20:30, 20:30] = 1, 2
    found = label_map.copy()
    found[20:30, 20:30], found[25:35, 35:45] = 0, 2
    (tmp_path / "truth").mkdir()
    cv2.imwrite(str(tmp_path / "truth" / "one.png"), label_map)
    segments = tuple(
        Segment(1, region.counts, region.area, region.bbox_xywh, 0.5)
        for region in codec.regions(found)
    )
    write_dataset(
        str(tmp_path / "ours"),
        [(ImageRecord("set/one.jpg", "x", image_id=1), Segmentation(40, 50, segments))],
        categories=Categories((Category(1, "nucleus", True, "#ff0000"),)),
        task="instance",
    )
    return tmp_path / "ours", tmp_path / "truth"


def test_prints_tables_and_writes_json(sides, tmp_path):
    ours, truth = sides
    out = tmp_path / "deep" / "figures.json"
    done = run(
        *("--dataset", ours, "--ground-truth", truth, "--json", out),
        *("--group-by-folder", "--metrics", "matching,ap", "--save"),
    )
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert result["overall"]["matching"]["accuracy_50"] == 1 / 3
    assert result["groups"][0]["group"] == "set"
    assert json.loads((ours / "report" / "evaluation.json").read_text()) == result
    first = next(line for line in done.stdout.splitlines() if line.strip().startswith("0.50"))
    assert first.split() == ["0.50", "0.333", "0.500", "0.500", "0.500", "1", "1", "1"]
    assert "By folder" in done.stdout
    assert "AP50" in done.stdout


def test_quiet_prints_nothing(sides):
    ours, truth = sides
    done = run("--dataset", ours, "--ground-truth", truth, "-q")
    assert (done.exit_code, done.stdout) == (0, "")


def test_every_metric_has_a_table(shared_data):
    truth = shared_data / "coco-panoptic" / "panoptic_examples.json"
    done = run("--predictions", truth, "--ground-truth", truth)
    assert done.exit_code == 0, done.output
    for words in ("Matching", "COCO, masks", "Panoptic quality", "mean IoU", "AR_large"):
        assert words in done.stdout
    for metric in ("matching", "COCO, masks", "panoptic quality", "pixels"):
        assert f"By category: {metric}" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines.count(["horse", *["1.000"] * 3]) == 2  # matching and pixels
    assert not [line for line in lines if "giraffe" in line]  # which does not occur
    assert "133 categories in all" in done.stdout


def test_images_that_are_amiss_are_told(sides, tmp_path):
    ours, truth = sides
    cv2.imwrite(str(truth / "two.png"), np.ones((5, 5), np.uint16))
    done = run("--dataset", ours, "--ground-truth", truth)
    assert "1 images without a prediction, counted as missed: two.png" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ground-truth", "TRUTH"], "nothing to evaluate"),
        (["--dataset", "OURS", "--ground-truth", "nowhere"], "no such file or folder"),
        (["--dataset", "OURS", "--ground-truth", "TRUTH", "--void", "x"], "--void wants numbers"),
        (["--dataset", "OURS", "--ground-truth", "TRUTH", "--metrics", "iou"], "unknown metric"),
        (["--dataset", "OURS", "--ground-truth", "OTHER"], "no image is on both sides"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(sides, tmp_path, arguments, message):
    ours, truth = sides
    (tmp_path / "other").mkdir()
    cv2.imwrite(str(tmp_path / "other" / "stranger.png"), np.ones((5, 5), np.uint16))
    places = {"OURS": ours, "TRUTH": truth, "OTHER": tmp_path / "other"}
    done = run(*(places.get(item, item) for item in arguments))
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    if message.startswith("no image"):
        assert "'stranger.png'" in done.stderr
        assert "'set/one.jpg'" in done.stderr


def test_runs_as_a_module(sides):
    ours, truth = sides
    command = ["-m", "jobs.evaluate", "--dataset", str(ours), "--ground-truth", str(truth)]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "TP / (TP + FP + FN)" in done.stdout
