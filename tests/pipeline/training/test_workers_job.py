"""What the driver hands to every worker."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from pipeline.training.categories import numbered_table
from pipeline.training.data import LabelLocation
from pipeline.training.examples import ExamplesPlan
from pipeline.training.workers import TrainingJob
from schemas.config.training import SemanticTrainConfig


def job(pictures: int, **changes: Any) -> TrainingJob:
    plan = ExamplesPlan(
        places=(LabelLocation("labels", "pictures"),),
        numbers=tuple((0, i) for i in range(pictures)),
        names=tuple(map(str, range(pictures))),
        rests=("ignore",),
        categories=numbered_table({1, 2}),
    )
    config = SemanticTrainConfig.parse({"batch_size": 8, **changes})
    return TrainingJob(Path("out"), config, "unet", "", plan, plan, (1.0, 1.0), {})


@pytest.mark.parametrize(("pictures", "steps"), [(1, 1), (8, 1), (9, 2), (24, 3)])
def test_an_epoch_shows_each_picture_about_once(pictures: int, steps: int):
    assert job(pictures).steps == steps
    assert job(pictures, steps=50).steps == 50


def test_it_travels():
    assert pickle.loads(pickle.dumps(job(3))) == job(3)
