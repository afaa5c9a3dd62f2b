"""Code that a checkpoint brings is never run, and nobody is asked whether it should be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_checkpoints import checkpoint
from typer.testing import CliRunner

from jobs.label import app
from pipeline.models.checkpoints.info import describe


def evil(folder: Path, marker: Path, *, kind: str, auto_map: dict[str, str]) -> Path:
    shutil.copytree(checkpoint("mobilenetv2"), folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": kind, "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(config))
    code = f"open({str(marker)!r}, 'w').write('x')\nclass EvilConfig: pass\nclass Evil: pass\n"
    (folder / "evil.py").write_text(code)
    return folder


@pytest.mark.parametrize(
    ("kind", "auto_map", "refused"),
    [
        ("evil", {"AutoConfig": "evil.EvilConfig"}, True),
        ("evil", {"AutoModelForSemanticSegmentation": "evil.Evil"}, True),
        # A kind that transformers knows is loaded with transformers' own code.
        ("mobilenet_v2", {"AutoModelForSemanticSegmentation": "evil.Evil"}, False),
    ],
)
def test_a_job_runs_no_code_of_a_checkpoint_and_asks_nothing(kind, auto_map, refused, tmp_path):
    marker = tmp_path / "PWNED"
    model = evil(tmp_path / "evil", marker, kind=kind, auto_map=auto_map)
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/a.png"), np.full((32, 32, 3), 90, np.uint8))
    asked = ["--input", str(tmp_path / "in"), "--inline", "--no-export", "--no-report", "-q"]
    asked += ["--output", str(tmp_path / "out"), "--model", str(model)]
    done = CliRunner().invoke(app, asked, input="y\ny\ny\n")
    assert not marker.exists()
    assert done.exit_code == (2 if refused else 0), done.output
    assert "[y/N]" not in done.output
    assert "Traceback" not in done.output


def test_a_checkpoint_names_no_file_elsewhere(tmp_path):
    table = tmp_path / "table.json"
    table.write_text("[]")
    folder = tmp_path / "model"
    shutil.copytree(checkpoint("segformer"), folder)
    (folder / "maskmill.json").write_text(json.dumps({"categories": str(table)}))
    with pytest.raises(ValueError, match="categories must be a list of entries or one of"):
        describe(str(folder))
    own = tmp_path / "own"
    shutil.copytree(describe("unet-nuclei").folder, own)
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**config, "weights": "../x.safetensors"}))
    with pytest.raises(ValueError, match="names weights outside its folder"):
        describe(str(own))
