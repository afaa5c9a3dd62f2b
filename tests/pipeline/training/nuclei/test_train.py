import json

import pytest
from safetensors.numpy import load_file
from tiny_nuclei import write_tiny_nuclei

from pipeline.models.checkpoints.info import describe
from pipeline.training.nuclei.train import train_nuclei
from schemas.config.training import TrainConfig

CONFIG = TrainConfig.parse(
    {"epochs": 2, "steps": 3, "batch_size": 2, "size": 32, "widths": [8, 8], "workers": 0}
)


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_nuclei(tmp_path_factory.mktemp("data") / "nuclei")


def test_a_killed_run_goes_on_as_if_nothing_had_happened(folder, tmp_path):
    def kill(line):
        raise KilledError

    train_nuclei([folder], tmp_path / "whole", CONFIG, device="cpu")
    with pytest.raises(KilledError):
        train_nuclei([folder], tmp_path / "killed", CONFIG, device="cpu", report=kill)
    train_nuclei([folder], tmp_path / "killed", CONFIG, device="cpu", resume=True)
    whole, killed = (
        load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed")
    )
    assert whole.keys() == killed.keys()
    for name, value in whole.items():
        assert (value == killed[name]).all(), name
    lines = (tmp_path / "killed" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def test_the_output_is_a_model(folder, tmp_path):
    best = train_nuclei([folder], tmp_path / "out", CONFIG, device="cpu")
    assert set(best["accuracy"]) == {"all", "fluorescence"}
    info = describe(str(tmp_path / "out"))
    assert info.family == "unet"
    assert info.config["training"]["config"]["steps"] == 3
    again = train_nuclei(
        [folder], tmp_path / "tuned", CONFIG, device="cpu", init=str(tmp_path / "out")
    )
    assert again["epoch"] in (1, 2)


def test_refusals(folder, tmp_path):
    train_nuclei([folder], tmp_path / "out", CONFIG, device="cpu")
    with pytest.raises(ValueError, match="holds a run already"):
        train_nuclei([folder], tmp_path / "out", CONFIG, device="cpu")
    other = CONFIG.model_copy(update={"epochs": 3})
    with pytest.raises(ValueError, match="another configuration"):
        train_nuclei([folder], tmp_path / "out", other, device="cpu", resume=True)
    with pytest.raises(ValueError, match=r"no last\.pt"):
        train_nuclei([folder], tmp_path / "new", CONFIG, device="cpu", resume=True)
    wide = CONFIG.model_copy(update={"widths": (8, 16)})
    with pytest.raises(ValueError, match="other widths"):
        train_nuclei([folder], tmp_path / "wide", wide, device="cpu", init=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="'unet-nuclei' has other widths"):
        train_nuclei([folder], tmp_path / "named", CONFIG, device="cpu", init="unet-nuclei")
    with pytest.raises(ValueError, match="of the family 'otsu', not 'unet'"):
        train_nuclei([folder], tmp_path / "other", CONFIG, device="cpu", init="otsu")
