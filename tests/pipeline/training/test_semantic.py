"""Training as a whole: learned, resumed, stopped, refused; and labelled with what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from safetensors import safe_open
from tiny_scenes import ROWS, UNLABELLED, scene, write_scenes

from pipeline.engine.run import label
from pipeline.ledger.ledger import open_ledger
from pipeline.training.data import LabelLocation
from pipeline.training.semantic import train_semantic
from schemas.config.job import JobConfig
from schemas.config.training import SemanticTrainConfig

QUICK: dict[str, Any] = {
    "epochs": 3,
    "steps": 12,
    "batch_size": 4,
    "crop": 64,
    "learning_rate": 3e-3,
    "warmup": 3,
    "ema": 0.5,
    "loaders": 0,
    "augmented": 0.0,
    "net": {"encoder": "resnet18", "depth": 3, "widths": [64, 32, 16]},
}


def config(**changes: Any) -> SemanticTrainConfig:
    return SemanticTrainConfig.parse({**QUICK, **changes})


def learn(place: LabelLocation, output: Path, **options: Any) -> dict[str, Any]:
    given = {"val": place, "device": "cpu", "config": config()}
    given |= options
    return train_semantic([place], output, given.pop("config"), **given)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> LabelLocation:
    return write_scenes(tmp_path_factory.mktemp("scenes"), 4)


@pytest.fixture(scope="module")
def trained(place: LabelLocation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("model")
    lines: list[Any] = []
    best = learn(place, output, licence="CC0-1.0", report=lines.append)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert best["pixel_accuracy"] > 0.97
    return output


def test_the_folder_labels_with_the_datasets_own_categories(
    place: LabelLocation, trained: Path, tmp_path: Path
):
    data = {
        "input": {"uri": place.pictures},
        "output": str(tmp_path / "out"),
        "model": {"name": str(trained)},
        "execution": {"inline": True},
    }
    label(JobConfig.parse(data), export=False, report=False)
    ledger = open_ledger(str(tmp_path / "out"))
    assert [(item.id, item.name, item.color) for item in ledger.categories] == [
        (row["id"], row["name"], row["color"]) for row in ROWS
    ]
    assert ledger.manifest.model["licence"] == "CC0-1.0"
    from pipeline.masks import codec

    ids = {row["pixel"]: row["id"] for row in ROWS}
    for image, segments in ledger.rows():
        _, values = scene(int(image["file_name"].removesuffix(".png")))
        found = np.zeros(values.shape, np.int64)
        for row in segments:
            found[codec.decode(row["rle"]["counts"], *values.shape) > 0] = row["category_id"]
        seen = values != UNLABELLED
        truth = np.vectorize(lambda value: ids.get(value, 0))(values)
        assert (found == truth)[seen].mean() > 0.95


def test_weights_are_safe_and_the_origin_is_told(trained: Path):
    with safe_open(trained / "model.safetensors", "np") as file:
        assert len(list(file.keys())) > 50
    told = json.loads((trained / "training.json").read_text())
    assert told["learned_from"] == 4
    assert told["config"]["epochs"] == 3
    assert told["best"]["epoch"] in (1, 2, 3)


def test_a_resumed_run_equals_one_that_was_not_interrupted(
    place: LabelLocation, trained: Path, tmp_path: Path
):
    def stop(line: Any) -> None:
        if line["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(place, tmp_path, licence="CC0-1.0", report=stop)
    with pytest.raises(ValueError, match="holds a run already"):
        learn(place, tmp_path)
    with pytest.raises(ValueError, match="under another configuration"):
        learn(place, tmp_path, config=config(learning_rate=1e-4), resume=True)
    learn(place, tmp_path, licence="CC0-1.0", resume=True)
    for name in ("log.jsonl", "model.safetensors", "training.json"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes(), name


def test_it_stops_early_and_stays_stopped(place: LabelLocation, tmp_path: Path):
    lines: list[Any] = []
    still = config(epochs=99, steps=1, learning_rate=1e-12, patience=2, best_by="iou:kite")
    best = learn(place, tmp_path, config=still, report=lines.append)
    # Without learning only the statistics of batch normalisation settle.
    assert lines[-1]["epoch"] == best["epoch"] + 2 < 40
    again: list[Any] = []
    assert learn(place, tmp_path, config=still, resume=True, report=again.append) == best
    assert not again


def test_fine_tuning_keeps_the_outputs_of_known_categories(
    place: LabelLocation, trained: Path, tmp_path: Path
):
    still = config(epochs=1, steps=1, learning_rate=1e-12, ema=0)
    best = learn(place, tmp_path / "a", config=still, init=str(trained))
    assert best["pixel_accuracy"] > 0.97
    with pytest.raises(ValueError, match="is a unet, not a segformer"):
        learn(place, tmp_path / "b", init=str(trained), architecture="segformer")


def test_nameless_maps_are_numbered_and_split_by_themselves(place: LabelLocation, tmp_path: Path):
    labels = tmp_path / "labels"
    labels.mkdir()
    for path in Path(place.labels).glob("*.png"):
        (labels / path.name).write_bytes(path.read_bytes())
    bare = LabelLocation(str(labels), place.pictures, void=(UNLABELLED,))
    learn(bare, tmp_path / "out", val=None, config=config(epochs=1, steps=1, val=0.3))
    told = json.loads((tmp_path / "out" / "training.json").read_text())
    assert told["learned_from"] + told["validated_on"] == 4
    rows = json.loads((tmp_path / "out" / "maskmill.json").read_text())["categories"]
    assert [row["name"] for row in rows] == ["category 1", "category 2", "category 3"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"best_by": "iou:kit"}, "best_by: no category is called 'kit'; known: sky, meadow, kite"),
        ({"category_weights": {"kit": 2}}, "did you mean 'kite'"),
        ({"shares": [1, 2]}, "shares must name one share a dataset"),
        ({"categories": "camvid"}, "neither a table nor a JSON file"),
        ({"net": {"encoder": "resnet19"}}, "resnet19"),
    ],
)
def test_bad_settings_are_named(place: LabelLocation, tmp_path: Path, changes: Any, said: str):
    with pytest.raises(ValueError, match=r"\S") as caught:
        learn(place, tmp_path / "out", config=config(**changes))
    assert said in str(caught.value)


def test_one_category_teaches_nothing(tmp_path: Path):
    place = write_scenes(tmp_path, 2)
    for path in Path(place.labels).glob("*.png"):
        cv2.imwrite(str(path), np.ones((64, 80), np.uint8))
    (Path(place.labels) / "categories.json").unlink()
    with pytest.raises(ValueError, match="1 category: a network tells two or more apart"):
        learn(place, tmp_path / "out")
