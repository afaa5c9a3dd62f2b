import subprocess
import sys
from pathlib import Path

import pytest
from pictures_encoded import encoded, scene
from typer.testing import CliRunner

from jobs.preview import app

ROOT = Path(__file__).resolve().parents[2]
TOML = """
[input]
uri = "photos"

[preprocess]
steps = [{step = "median"}, {step = "clahe", clip = 3.0}]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "job.toml").write_text(TOML)
    (tmp_path / "photo.png").write_bytes(encoded(scene(), "PNG"))
    return tmp_path


def run(folder, *arguments):
    words = ("--image", folder / "photo.png", "--output", folder / "steps.png", *arguments)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_as_a_user_runs_it(folder):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "jobs.preview", "--config", "job.toml"),
            *("--image", "photo.png", "--output", "steps.png"),
        ],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, second, last = done.stdout.splitlines()
    assert first.startswith("1. median (size 3): mean ")
    assert second.startswith("2. clahe (clip 3.0, tiles 8): mean ")
    assert last == str(folder / "steps.png")
    assert (folder / "steps.png").read_bytes().startswith(b"\x89PNG")


def test_set_alone_and_over_a_file(folder):
    steps = 'preprocess.steps=[{step = "gamma", gamma = 0.5}]'
    for words in (("--set", steps), ("--config", folder / "job.toml", "--set", steps)):
        done = run(folder, *words)
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith("1. gamma (gamma 0.5)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "preprocess.steps is empty"),
        (("--set", "preproces.steps=[]"), "'preproces'; did you mean 'preprocess'?"),
        (("--set", 'preprocess.steps=[{step = "blur"}]'), "no step is called 'blur'"),
        (("--set", 'preprocess.steps=[{step = "median", size = 2}]'), "greater than or equal to 3"),
        (("--config", "nowhere.toml"), "nowhere.toml"),
    ],
)
def test_bad_usage_is_one_line(folder, words, message):
    done = run(folder, *words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
