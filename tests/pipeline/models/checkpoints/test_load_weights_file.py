"""Files of weights: safe to read, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.models.checkpoints.load import EmptyWeights, fill, read_weights, write_checkpoint


def net() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))


class Bomb:
    """Runs a command where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_checkpoint_comes_back(tmp_path: Path):
    write_checkpoint(tmp_path / "new", net().state_dict(), {"format": "maskmill"})
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    again = net()
    torch.nn.init.zeros_(again[0].weight)
    fill(again, read_weights(tmp_path / "new", ["model.safetensors"]), where="here")
    assert torch.equal(again[0].weight, net()[0].weight)


def test_half_precision_and_missing_counters_are_fine():
    state = {name: value.half() for name, value in net().state_dict().items()}
    del state["1.num_batches_tracked"]
    other = net()
    fill(other, state, where="here")
    assert other[0].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("0.bias"), r"here: weights do not fit.*Missing.*0\.bias"),
        (lambda state: state.update(head=torch.zeros(1)), r"Unexpected.*head"),
        (lambda state: state.update({"0.bias": torch.zeros(9)}), r"size mismatch for 0\.bias"),
    ],
)
def test_weights_that_do_not_fit_are_named(change, message: str):
    state = dict(net().state_dict())
    change(state)
    with pytest.raises(ValueError, match=message):
        fill(net(), state, where="here")


def test_pickles_only_where_they_are_allowed_and_only_weights(tmp_path: Path):
    good = tmp_path / "good.pth"
    torch.save(net().state_dict(), good)
    with pytest.raises(ValueError, match="--allow-pickle"):
        read_weights(tmp_path, ["good.pth"])
    assert set(read_weights(tmp_path, ["good.pth"], allow_pickle=True)) == set(net().state_dict())

    bomb = tmp_path / "bomb.pth"
    torch.save({"a": Bomb(tmp_path / "exploded")}, bomb)
    with pytest.raises(ValueError, match="more than weights"):
        read_weights(tmp_path, ["bomb.pth"], allow_pickle=True)
    assert not (tmp_path / "exploded").exists()

    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="no table of weights"):
        read_weights(tmp_path, ["list.pth"], allow_pickle=True)


def test_missing_and_damaged_files_are_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"there is no .*a\.safetensors"):
        read_weights(tmp_path, ["a.safetensors"])
    save_file({"a": torch.zeros(1000)}, tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        read_weights(tmp_path, ["a.safetensors"])
    (tmp_path / "b.pth").write_bytes(b"")
    with pytest.raises(ValueError, match="is damaged"):
        read_weights(tmp_path, ["b.pth"], allow_pickle=True)


def test_what_is_written_is_readable_by_others(tmp_path: Path):
    write_checkpoint(tmp_path, {"a": torch.zeros(2, 3).T}, {"format": "maskmill"})
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert load_file(tmp_path / "model.safetensors")["a"].shape == (3, 2)


def test_weights_in_several_files_are_one_table(tmp_path: Path):
    save_file({"a": torch.zeros(1)}, tmp_path / "1.safetensors")
    save_file({"b": torch.ones(1)}, tmp_path / "2.safetensors")
    assert set(read_weights(tmp_path, ["1.safetensors", "2.safetensors"])) == {"a", "b"}


def test_a_network_to_be_filled_draws_nothing():
    """Or a large one is drawn at random for longer than its file is read."""
    state = torch.random.get_rng_state()
    with EmptyWeights():
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        torch.nn.init.kaiming_normal_(net[0].weight)
        assert torch.rand(1).shape == torch.zeros(1).uniform_().shape
    torch.random.set_rng_state(state)
    with EmptyWeights():
        torch.nn.Linear(4, 4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert net[1].weight.tolist() == [1] * 4
