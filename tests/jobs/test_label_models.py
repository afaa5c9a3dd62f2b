"""jobs.label with models that are not bundled: hub ids, pickles, category tables."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import constants
from plain_checkpoints import COMMIT, hub_cache
from recording_model import worker_spec
from safetensors.torch import load_file
from tiny_checkpoints import checkpoint
from typer.testing import CliRunner, Result

from jobs.label import app
from pipeline.engine.worker import ShardWorker
from pipeline.errors import ModelLoadError

REPO = "somebody/tiny-segformer"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for number in range(2):
        small = rng.integers(0, 256, (5, 7, 3), np.uint8)
        picture = cv2.resize(small, (70, 50), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with a tiny SegFormer in it, and no network."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub_cache(folder, REPO, checkpoint("segformer"))
    return folder


def run(pictures: Path, out: Path, model: str | Path, *arguments: str) -> Result:
    given = ["--input", str(pictures), "--output", str(out), "--model", str(model), "--inline"]
    return CliRunner().invoke(app, [*given, "--quiet", "--no-report", "--no-export", *arguments])


def labelled(*arguments: Any) -> dict[str, Any]:
    """The manifest."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads((arguments[1] / "manifest.json").read_text())


def found(out: Path) -> list[tuple[int, str]]:
    """Category and mask of every segment."""
    parts = json.loads((out / "manifest.json").read_text())["parts"]
    rows = [
        row
        for part in parts
        for row in pq.read_table(out / "annotations" / f"{part['name']}.parquet").to_pylist()
    ]
    return sorted((row["category_id"], row["rle"]["counts"]) for row in rows)


def test_a_hub_id_labels_and_the_manifest_says_from_where(
    pictures: Path, cache: Path, tmp_path: Path
) -> None:
    manifest = labelled(pictures, tmp_path / "out", REPO)
    model = manifest["model"]
    assert (model["name"], model["repo"], model["revision"]) == (REPO, REPO, COMMIT)
    assert model["category_ids"] == [1, 2, 3, 4, 5, 6]
    assert manifest["counts"]["annotations"] > 0
    local = labelled(pictures, tmp_path / "local", checkpoint("segformer"))
    assert found(tmp_path / "local") == found(tmp_path / "out")
    assert "repo" not in local["model"]


def test_another_table_changes_ids_and_computes_again(
    pictures: Path, cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    before = labelled(pictures, out, REPO)
    old = found(out)
    path = tmp_path / "mine.json"
    row = {"isthing": False, "color": "#000000"}
    rows = [{**row, "id": 40 + i, "name": f"k{i}", "index": 5 - i} for i in range(6)]
    path.write_text(json.dumps(rows))
    after = labelled(pictures, out, REPO, "--categories", str(path))
    assert after["model"]["category_ids"] == [45, 44, 43, 42, 41, 40]
    assert after["config_fingerprint"] != before["config_fingerprint"]
    assert found(out) == sorted((46 - id_, counts) for id_, counts in old)
    rows = [{**each, "index": each["id"] - 40} for each in rows]
    path.write_text(json.dumps(rows))
    again = labelled(pictures, out, REPO, "--categories", str(path))
    assert again["categories"] == after["categories"]
    assert again["config_fingerprint"] != after["config_fingerprint"]
    assert found(out) == sorted((39 + id_, counts) for id_, counts in old)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--categories", "coco-80"), "coco-80 has no category for output 0, 'c0'"),
        (("--categories", "coco-8"), "did you mean 'coco-80'"),
        (("--revision", "v9"), "hf download somebody/tiny-segformer --revision v9"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_image(
    pictures: Path, cache: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run(pictures, tmp_path / "out", REPO, *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_a_pickle_labels_with_permission_and_the_same(
    pictures: Path, cache: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(checkpoint("segformer"), folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    refused = run(pictures, tmp_path / "out", folder)
    assert refused.exit_code == 2
    assert "--allow-pickle" in refused.output
    labelled(pictures, tmp_path / "out", folder, "--allow-pickle")
    labelled(pictures, tmp_path / "safe", REPO)
    assert found(tmp_path / "out") == found(tmp_path / "safe")


class Code:
    """Its pickle makes a file when a reader that lets it reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def test_a_pickle_that_holds_code_runs_none(pictures: Path, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    shutil.copytree(checkpoint("segformer"), folder)
    (folder / "model.safetensors").unlink()
    torch.save({"w": Code(tmp_path / "made")}, folder / "pytorch_model.bin")
    result = run(pictures, tmp_path / "out", folder, "--allow-pickle")
    assert result.exit_code == 2
    assert "cannot be loaded" in result.output
    assert not (tmp_path / "made").exists()


def test_a_node_without_the_folder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, log = worker_spec(monkeypatch, tmp_path, {})
    gone = replace(spec, info=replace(spec.info, folder=str(tmp_path / "gone")))
    with pytest.raises(ModelLoadError, match="put the model where every node sees it"):
        ShardWorker(gone)
    assert log == []
