"""The table of families: no checkpoint has two of them, and every column is of use."""

from __future__ import annotations

from collections import Counter

import pytest

from pipeline.models.checkpoints.families import (
    BUNDLED,
    FAMILIES,
    Thresholds,
    family_of,
    promptable,
    segmenter_class,
)
from pipeline.models.checkpoints.locate import WEIGHTS_ROOT
from schemas.config.model import ModelConfig
from schemas.records import TASKS


def test_a_model_type_belongs_to_one_family() -> None:
    kinds = Counter(kind for row in FAMILIES.values() for kind in row.model_types)
    assert set(kinds.values()) == {1}
    assert {family_of(kind) for kind in kinds} <= set(FAMILIES)
    assert family_of("llama") is None


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_fit_together(name: str) -> None:
    row = FAMILIES[name]
    assert row.tasks
    assert set(row.tasks) <= set(TASKS)
    assert promptable(name) == row.prompts
    assert not (row.heads and row.prompts), "what is asked is known by its model_type"
    assert row.segmenter.startswith("pipeline.models.")


def test_what_ships_is_there() -> None:
    assert {folder.name for folder in WEIGHTS_ROOT.iterdir() if folder.is_dir()} == BUNDLED


def test_a_family_s_class_is_imported_when_it_is_wanted() -> None:
    assert segmenter_class("otsu").__name__ == "OtsuSegmenter"


def test_the_job_goes_before_the_family() -> None:
    own = FAMILIES["eomt"].thresholds
    assert own == Thresholds(score=0.8, mask=0.5, overlap=0.8)
    assert own.under(ModelConfig(name="x")) == own
    given = ModelConfig(name="x", threshold=0.1, mask_threshold=0.2, overlap_threshold=0.3)
    assert own.under(given) == Thresholds(0.1, 0.2, 0.3)
    assert own.under(ModelConfig(name="x", threshold=0.0)).score == 0
