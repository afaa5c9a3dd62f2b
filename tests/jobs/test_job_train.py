import subprocess
import sys

import pytest

from schemas.train_config import TrainConfig


def run(*arguments):
    command = [sys.executable, "-m", "jobs.train", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


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
    result = run("--data", tmp_path, "--output", tmp_path / "out", "--set", setting)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_missing_data_is_one_line(tmp_path):
    result = run("--data", tmp_path / "none", "--output", tmp_path / "out", "--device", "cpu")
    assert result.returncode == 2
    assert "index.json" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_bundled_configuration_is_valid():
    import tomllib
    from pathlib import Path

    path = Path(__file__).parents[2] / "jobs" / "configs" / "unet-nuclei.toml"
    assert TrainConfig.parse(tomllib.loads(path.read_text())).batch_size == 64
