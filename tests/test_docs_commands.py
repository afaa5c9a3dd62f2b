"""Every command of the documents runs here as it stands, or says why it cannot.

All run one after the other in one folder, beside the pictures, truths and datasets that they name;
labelling without Ray, to save its start.
"""

from __future__ import annotations

import importlib
import json
import re
import shutil
from itertools import takewhile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from document_commands import SHOWN, job_of, values
from source_tree import ROOT
from typer.testing import CliRunner

from examples.simulate import render_field
from pipeline.models.checkpoints.families import BUNDLED

# What cannot run here, by what stands in the command.
REASONS = {
    r"s3://|\$": "a store of the reader's",
    r"/versions/0000(?!01)|--rollback": "a number of the reader's versions",
    r"jobs\.promote|^maskmill promote": "nothing is held back here: tests/jobs/test_promote.py",
    r"--workers|--resume": "processes or a run that was stopped: tests/jobs/test_train.py",
    r"jobs\.train|^maskmill train": "minutes of training: tests/jobs/test_train.py",
    r"--import|--locked-only|--conflicts": "a person's corrections: tests/jobs/test_review.py",
    r"--second": "three more runs: tests/pipeline/review/test_trust.py",
    r"--model (model/|path/|deeplab)|--dataset (voc/|labels/)": "weights of the reader's",
    r"--ground-truth labels/|diff out/ labels/": "labels of such weights",
    r"demo/|demo\.toml": "the demo's folder: tests/examples",
    r"^(maskmill|python -m) [\w.]+( --(set|data|dataset))?$": "a name in a sentence",
    r"config model\. |…|\.\.\.|NAME": "a pattern",
    r"iou-type bbox|boxes\.json": "boxes of the reader's: tests/jobs/test_label_prompts.py",
}


def why_not(command: list[str]) -> str:
    """Why a command cannot run here, "" = it can."""
    text = " ".join(command)
    for pattern, reason in REASONS.items():
        if re.search(pattern, text):
            return reason
    for model in values(command, "--model"):
        if model not in BUNDLED:
            return f"weights that are not in the repository: {model}"
    return ""


ALL = {" ".join(command): command for command in SHOWN}
HERE = [command for command in ALL.values() if not why_not(command)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures under every name that the commands use, two versions of `out/`, and truths."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("photos", "tiles", "scans", "cells", "plate1"):
        (folder / name).mkdir()
        for seed, stem in enumerate("ab", 1):
            pixels = render_field(seed, size_hw=(96, 96), nuclei=4).pixels
            cv2.imwrite(str(folder / name / f"{stem}.jpg"), pixels)
    shutil.copy(folder / "photos/a.jpg", folder / "photo.jpg")
    stack = np.stack([cv2.imread(str(folder / "photos/a.jpg"), 0)] * 6).reshape(3, 2, 96, 96)
    names = {"axes": "ZCYX", "Channel": {"Name": ["DAPI", "actin"]}}
    shutil.rmtree(folder / "plate1")
    (folder / "plate1").mkdir()
    tifffile.imwrite(folder / "plate1/a1.ome.tif", stack, ome=True, metadata=names)
    (folder / "job.toml").write_text(
        'output = "out"\n[input]\nuri = "photos"\n[model]\nname = "unet-nuclei"\n'
        '[preprocess]\nsteps = [{step = "median", size = 3}]\n'
    )
    for area in (1, 30):
        run(
            folder, ["maskmill", "label", "--config", "job.toml", "--set", f"model.min_area={area}"]
        )
    truth = json.loads((folder / "out/exports/coco/instances.json").read_bytes())
    for name in ("truth.json", "instances.json"):
        (folder / name).write_text(json.dumps(truth))
    (folder / "outlined").mkdir()
    for stem in ("a", "b", "a1.ome"):
        label_map = np.zeros((96, 96), np.uint16)
        label_map[20:40, 20:40] = 1
        cv2.imwrite(str(folder / "outlined" / f"{stem}.png"), label_map)
    shutil.copytree(folder / "out", folder / "new")
    return folder


def run(folder: Path, command: list[str]) -> None:
    """In this process, from that folder."""
    job = job_of(command)
    words = [*takewhile(lambda word: word != ">", command)][2 + (command[0] != "maskmill") :]
    if job == "jobs.label" and not {"--plan", "--prune"} & set(words):
        words = [*words, "--inline"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = CliRunner().invoke(importlib.import_module(job).app, words)
    assert done.exit_code == 0, (command, done.output, done.exception)


def test_most_commands_run_and_each_of_the_others_has_a_reason() -> None:
    assert len(HERE) >= 40
    assert set(ALL) == {" ".join(c) for c in HERE} | {t for t, c in ALL.items() if why_not(c)}
    unused = [p for p in REASONS if not any(re.search(p, text) for text in ALL)]
    assert not unused, "no command needs these reasons any more"


@pytest.mark.slow
@pytest.mark.parametrize("command", HERE, ids=" ".join)
def test_it_runs(place: Path, command: list[str]) -> None:
    run(place, command)


def test_the_documents_name_make_targets_alone_beside_them() -> None:
    """What is neither a job nor a tool of another maker is not shown."""
    known = (
        r"(make|uv|pip|pipx|docker|kubectl|hf|ray|export|rm|cp|cd|git|python -m jobs|maskmill)\b"
    )
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for block in re.findall(r"^```bash\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip() and not line.strip().startswith("#"):
                    assert re.match(known, line.strip()), (path.name, line)
