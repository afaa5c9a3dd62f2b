"""Trains the recipes of docs/training.md and labels the held-out pictures with what comes out.

python -m bench.train --data ../shared/data --work out/train [--only em,camvid] [--model unet]
    [--set epochs=2] [--self-training] [--device cuda]

Figures are of the stored checkpoint, loaded as jobs.label loads it. --self-training learns from
half of the labels, labels the other half's pictures, and learns from both.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.images.decode import decode_image
from pipeline.ledger.ledger import write_dataset
from pipeline.models.checkpoints.families import segmenter_class
from pipeline.models.checkpoints.info import ModelInfo, describe
from pipeline.training.data import LabelLocation, LabelSource
from pipeline.training.examples import ExamplesPlan, paint_label_map
from pipeline.training.learn.semantic import figures
from pipeline.training.semantic import train_semantic
from schemas.config.job import ImagesConfig
from schemas.config.layers import layered
from schemas.config.model import ModelConfig
from schemas.config.training import SemanticTrainConfig
from schemas.records import ImageRecord, Sample, Segmentation

CONFIGS = Path(__file__).parents[1] / "jobs" / "configs"
EM_KEY = {
    "categories": [
        {"pixel": 255, "id": 1, "name": "cell", "isthing": 0, "color": "#e0c060"},
        {"pixel": 0, "id": 2, "name": "membrane", "isthing": 0, "color": "#303848"},
    ]
}
"""What the pixels of em-membrane's maps mean."""


@dataclass(frozen=True)
class Task:
    """Data and recipe.

    Attributes:
        name: Also of the recipe, train-NAME.toml.
        learn: To learn from.
        val: To judge by.
        config: The recipe with --set.
    """

    name: str
    learn: LabelLocation
    val: LabelLocation
    config: SemanticTrainConfig


def main() -> None:
    """Prints a line of JSON a run, and a table at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="with em-membrane/ and camvid/")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="em,camvid")
    parser.add_argument("--model", default="", help="list; empty = unet")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--self-training", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.only.split(","):
        task = task_of(name, arguments.data, arguments.work, arguments.set)
        for model in (arguments.model or "unet").split(","):
            work = arguments.work / f"{name}-{model}"
            run = self_training if arguments.self_training else plain
            for row in run(task, model, work, arguments.device):
                print(json.dumps(row), flush=True)
                rows.append(row)
    print("| data | model | learned from | minutes | pixel error | mean IoU | IoU by category |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        each = ", ".join(f"{k} {v:.3f}" for k, v in row["iou"].items())
        print(
            f"| {row['data']} | {row['model']} | {row['learned_from']} | {row['minutes']:.1f} "
            f"| {row['pixel_error']:.4f} | {row['mean_iou']:.4f} | {each} |"
        )


def task_of(name: str, data: Path, work: Path, sets: list[str]) -> Task:
    """The data of a recipe; em-membrane's maps get a key, in a copy."""
    config = SemanticTrainConfig.parse(layered(CONFIGS / f"train-{name}.toml", sets, {}))
    root = data / {"em": "em-membrane"}.get(name, name)
    places = []
    for split in ("train", "val"):
        labels = root / split / "labels"
        if name == "em":
            labels = work / f"em-{split}-labels"
            shutil.copytree(root / split / "labels", labels, dirs_exist_ok=True)
            (labels / "categories.json").write_text(json.dumps(EM_KEY))
        places.append(
            LabelLocation(
                str(labels),
                str(root / split / "images"),
                void=config.void,
                pixel_offset=config.pixel_offset,
            )
        )
    return Task(name, places[0], places[1], config)


def plain(task: Task, model: str, work: Path, device: str) -> Iterator[dict[str, Any]]:
    """One run with all labels."""
    yield trained(task, [task.learn], model, work, device, "all labels")


def self_training(task: Task, model: str, work: Path, device: str) -> Iterator[dict[str, Any]]:
    """A teacher from half of the labels, a student from these and the teacher's own labels."""
    work.mkdir(parents=True, exist_ok=True)
    half = halved(task.learn, work)
    yield trained(task, [half], model, work / "teacher", device, "half of the labels")
    teacher = Found(work / "teacher", device)
    labelled = LabelSource(task.learn, _storage())
    known = {pair.record.file_name for pair in LabelSource(half, _storage()).pairs}
    others = [pair for pair in labelled.pairs if pair.record.file_name not in known]

    def answers() -> Iterator[tuple[ImageRecord, Segmentation]]:
        for number, pair in enumerate(others, 1):
            record = ImageRecord(pair.record.file_name, pair.record.uri, image_id=number)
            yield record, teacher.of(labelled.read(pair), record)

    pseudo = work / "pseudo"
    if not pseudo.exists():
        write_dataset(str(pseudo), answers(), categories=teacher.info.categories, task="semantic")
    places = [half, LabelLocation(str(pseudo), task.learn.pictures)]
    yield trained(task, places, model, work / "student", device, "half + own labels of the rest")


def halved(place: LabelLocation, work: Path) -> LabelLocation:
    """Every other map, and the pictures as they are."""
    folder = work / "half"
    folder.mkdir(exist_ok=True)
    maps = sorted(Path(place.labels).glob("*.png"))
    for path in maps[::2]:
        shutil.copy(path, folder / path.name)
    key = Path(place.labels) / "categories.json"
    if key.exists():
        shutil.copy(key, folder / key.name)
    return LabelLocation(
        str(folder), place.pictures, void=place.void, pixel_offset=place.pixel_offset
    )


def trained(
    task: Task, places: list[LabelLocation], model: str, work: Path, device: str, what: str
) -> dict[str, Any]:
    """Trains, and measures the stored checkpoint on the pictures to judge by."""

    def report(line: dict[str, Any]) -> None:
        if "mean_iou" in line:
            shown = (
                f"{key} {line[key]}" for key in ("epoch", "loss", "mean_iou", "pixel_accuracy")
            )
            print(task.name, model, "  ".join(shown), line.get("images_per_second"), flush=True)

    config = task.config
    if model != "unet":
        net = config.net.model_copy(update={"encoder": "", "depth": 5, "widths": ()})
        config = config.model_copy(update={"net": net})
    start = time.perf_counter()
    best = train_semantic(
        places, work, config, val=task.val, architecture=model, device=device, report=report
    )
    minutes = (time.perf_counter() - start) / 60
    found = Found(work, device)
    labelled = LabelSource(task.val, _storage())
    categories = found.info.categories
    size = len(categories)
    index_of = {item.id: index for index, item in enumerate(categories)}
    plan = ExamplesPlan(
        places=(task.val,),
        numbers=tuple((0, at) for at in range(len(labelled.pairs))),
        names=tuple(pair.record.file_name for pair in labelled.pairs),
        rests=("ignore",),
        categories=categories,
    )
    counts = np.zeros((size, size), np.int64)
    for pair, (_, truth) in zip(labelled.pairs, plan.open(), strict=True):
        answer = found.of(labelled.read(pair), pair.record)
        answered = paint_label_map(_segments(answer), index_of)
        seen = truth >= 0
        np.add.at(counts, (truth[seen], answered[seen]), 1)
    values = figures(counts, categories)
    log = [json.loads(line) for line in (work / "log.jsonl").read_text().splitlines()]
    return {
        "data": task.name,
        "model": model,
        "what": what,
        "learned_from": json.loads((work / "training.json").read_text())["learned_from"],
        "minutes": minutes,
        "pixel_error": 1 - values["pixel_accuracy"],
        "mean_iou": values["mean_iou"],
        "iou": {k.partition(":")[2]: v for k, v in values.items() if k.startswith("iou:")},
        "best_epoch": best["epoch"],
        "at_training": {k: best[k] for k in ("mean_iou", "pixel_accuracy")},
        "last_epoch": {k: log[-1].get(k) for k in ("epoch", "mean_iou", "pixel_accuracy")},
    }


class Found:
    """A checkpoint that labels pictures as jobs.label does."""

    def __init__(self, folder: Path, device: str) -> None:
        import torch

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.info: ModelInfo = describe(str(folder))
        options = ModelConfig(name=str(folder))
        self._model = segmenter_class(self.info.family)(self.info, options, ("semantic",))
        self._model.load(device)

    def of(self, data: bytes, record: ImageRecord) -> Segmentation:
        """The segments of one picture."""
        sample = decode_image(data, record, ImagesConfig())
        if not isinstance(sample, Sample):
            raise ValueError(f"{record.file_name}: {sample.message}")
        (found,) = self._model.segment([sample])
        return found


def _segments(answer: Segmentation) -> Any:
    from pipeline.evaluation.sources.source import make_segments

    return make_segments(
        answer.height,
        answer.width,
        [segment.counts for segment in answer.segments],
        [segment.category_id for segment in answer.segments],
    )


def _storage() -> Any:
    from pipeline.storage.storage import Storage

    return Storage()


if __name__ == "__main__":
    main()
