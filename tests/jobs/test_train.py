import subprocess
import sys

import pytest
from tiny_scenes import write_scenes
from typer.testing import CliRunner

from jobs.train import app
from schemas.config.training import TrainConfig


def run(*arguments):
    command = [sys.executable, "-m", "jobs.train", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def invoke(*arguments):
    """The same program in this process, which has torch already."""
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("epoch=3", "did you mean 'epochs'"),
        ("epochs=0", "epochs: "),
        ("epochs", "key=value"),
        ("shares={ fluorescence = -1 }", "shares must not be negative"),
    ],
)
def test_a_bad_setting_is_one_line(tmp_path, setting, said):
    result = invoke("--data", tmp_path, "--output", tmp_path / "out", "--set", setting)
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_missing_data_is_one_line(tmp_path):
    result = invoke("--data", tmp_path / "none", "--output", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 2
    assert "index.json" in result.output
    assert "Traceback" not in result.output


def test_the_bundled_configuration_is_valid():
    import tomllib
    from pathlib import Path

    path = Path(__file__).parents[2] / "jobs" / "configs" / "unet-nuclei.toml"
    assert TrainConfig.parse(tomllib.loads(path.read_text())).batch_size == 64


def test_a_dataset_is_learned_and_a_second_start_is_refused(tmp_path):
    place = write_scenes(tmp_path, 3)
    output = tmp_path / "out"
    flags = ["--dataset", place.labels, "--images", place.pictures, "--val", place.labels]
    flags += ["--val-images", place.pictures, "--output", output, "--device", "cpu"]
    flags += ["--epochs", 1, "--set", "steps=1", "--set", "batch_size=2", "--set", "crop=32"]
    flags += ["--set", "loaders=0", "--set", "net.encoder=resnet18", "--set", "net.depth=3"]
    done = run(*flags)
    assert done.returncode == 0, done.stderr
    assert f"model: {output}" in done.stdout
    assert "epoch 1/1  loss" in done.stderr
    assert {"config.json", "last.pt", "log.jsonl", "maskmill.json", "model.safetensors"} <= {
        path.name for path in output.iterdir()
    }
    again = invoke(*flags)
    assert again.exit_code == 2
    assert "holds a run already" in again.output


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "name either --dataset or --data"),
        (("--dataset", "a", "--data", "b"), "name either --dataset or --data"),
        (("--data", "b", "--model", "unet"), "--model belongs to --dataset"),
        (("--dataset", "a", "--negatives", "b"), "--negatives belongs to --data"),
        (("--dataset", "a", "--model", "unett"), "did you mean 'unet'"),
        (("--dataset", "a", "--images", "b", "--images", "c"), "--images: name one for each"),
        (("--dataset", "none"), "no such file or folder"),
        (("--dataset", "a", "--set", "crop=3"), "crop: "),
    ],
)
def test_bad_flags_are_one_line(tmp_path, flags, said):
    result = CliRunner().invoke(app, [*flags, "--output", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert said in result.output
    assert not (tmp_path / "out").exists()
