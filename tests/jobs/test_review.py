import json

import numpy as np
import pytest
from pictures import write_pictures
from typer.testing import CliRunner

from jobs.review import app
from pipeline.engine.run import label
from pipeline.ledger.ledger import open_ledger
from pipeline.masks import codec
from pipeline.validation.validate import validate
from schemas.config.job import JobConfig


def run(*arguments):
    return CliRunner().invoke(app, [str(item) for item in arguments])


@pytest.fixture
def labelled(tmp_path):
    write_pictures(tmp_path / "in", 12)
    data = {
        "input": {"uri": str(tmp_path / "in")},
        "output": str(tmp_path / "out"),
        "model": {"name": "otsu"},
        "task": ["instance"],
        "execution": {"inline": True},
    }
    label(JobConfig.parse(data), report=False)
    return tmp_path


FILES = {
    "coco": "instances.json",
    "label-studio": "tasks.json",
    "cvat": "annotations.zip",
}


def corrected(path):
    """What a person's tool would write: Label Studio keeps predictions and annotations apart."""
    if path.name == "tasks.json":
        tasks = json.loads(path.read_text())
        for task in tasks:
            (task["annotations"],) = [[{**item, "completed_by": 3}] for item in task["predictions"]]
        path.write_text(json.dumps(tasks))
    return path


@pytest.mark.parametrize("tool", FILES)
def test_out_for_a_tool_and_back_again_loses_no_pixel(labelled, tool):
    out, review = labelled / "out", labelled / "review"
    done = run(out, "--format", tool, "--worst", "0", "--random", "4", "--output", review)
    assert done.exit_code == 0, done.output
    assert "0 pictures of least trust and 4 by chance, of 12" in done.stdout
    names = {
        item["file_name"] for item in json.loads((review / "selection.json").read_text())["images"]
    }
    assert len(names) == 4
    before = {image["file_name"]: rows for image, rows in open_ledger(str(out)).rows()}
    file = corrected(review / tool / FILES[tool])
    done = run(out, "--import", file, "--selection", review / "selection.json", "--by", "Ada")
    assert done.exit_code == 0, done.output
    assert "4 pictures locked, 0 locked anew, 0 known; version 2" in done.stdout
    after = {image["file_name"]: (image, rows) for image, rows in open_ledger(str(out)).rows()}
    assert {name for name, (image, _) in after.items() if image["locked"]} == names
    for name in names:
        assert [row["rle"] for row in after[name][1]] == [row["rle"] for row in before[name]]
        assert after[name][0]["locked_by"] == ("3" if tool == "label-studio" else "Ada")
    exported = json.loads((out / "exports" / "coco" / "instances.json").read_text())
    assert len(exported["images"]) == 12
    assert validate(str(out)).ok
    assert run(out, "--conflicts").exit_code == 0
    again = labelled / "again"
    done = run(out, "--format", "coco", "--worst", "0", "--random", "100%", "--output", again)
    assert "8 by chance, of 8" in done.stdout  # what is locked needs nobody's time


def test_conflicts_are_listed_and_exit_1(labelled):
    data = {
        "images": [{"id": 1, "file_name": "nowhere.png", "height": 9, "width": 9}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "segmentation": {"size": [9, 9], "counts": codec.encode(np.ones((9, 9))).decode()},
            }
        ],
        "categories": [{"id": 1, "name": "object"}],
    }
    (labelled / "x.json").write_text(json.dumps(data))
    done = run(labelled / "out", "--import", labelled / "x.json")
    assert done.exit_code == 1
    assert "not taken: nowhere.png: the dataset has no picture of this name" in done.stderr
    assert open_ledger(str(labelled / "out")).manifest.version == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name what to do"),
        (["--output", "x", "--format", "paint"], "unknown format 'paint'"),
        (["--output", "x", "--worst", "many"], "--worst wants a share"),
        (["--import", "nowhere.json"], "no such file"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(labelled, monkeypatch, arguments, message):
    monkeypatch.chdir(labelled)
    done = run(labelled / "out", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
