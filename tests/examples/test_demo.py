"""The demo, as `make demo` runs it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
from source_tree import ROOT

from examples.demo import OTHERS
from pipeline.models.checkpoints.info import known_models


def test_the_second_act_names_models_that_there_are():
    known = {entry.name for entry in known_models()}
    for _, line in OTHERS:
        words = shlex.split(line)
        assert words[0] == "--model"
        assert set(words[1].split("+")) <= known
        assert set(words[2::2]) <= {"--prompt", "--prompts"}


@pytest.mark.slow
def test_the_demo_runs_from_end_to_end(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", str(tmp_path / "demo")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing changed" in done.stdout
    assert (tmp_path / "demo" / "models.html").is_file()
    dataset = tmp_path / "demo" / "dataset"
    manifest = json.loads((dataset / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["version"] == 1
    assert manifest["counts"]["images"] == 20
    assert manifest["counts"]["failed"] == 0
    figures = json.loads((dataset / "report" / "evaluation.json").read_text(encoding="utf-8"))
    by_folder = {group["group"]: group["overall"]["matching"] for group in figures["groups"]}
    assert by_folder["simulated"]["accuracy_50"] > 0.85
    assert by_folder["photos"]["thresholds"][0]["fp"] <= 8
