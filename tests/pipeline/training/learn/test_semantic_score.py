"""Figures while training are those that jobs.evaluate gives."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.evaluate import evaluate
from pipeline.training.learn.semantic import figures
from schemas.categories import Categories, Category

TABLE = Categories(
    (
        Category(1, "sky", False, "#0000ff"),
        Category(2, "kite", True, "#ff0000"),
        Category(3, "background", False, "#000000", is_background=True),
        Category(4, "unseen", False, "#00ff00"),
    )
)


def test_figures_by_hand():
    counts = np.zeros((4, 4), np.int64)
    counts[:3, :3] = [[6, 2, 0], [1, 3, 0], [0, 0, 8]]
    found = figures(counts, TABLE)
    assert found["iou:sky"] == pytest.approx(6 / 9, abs=1e-6)
    assert found["iou:kite"] == pytest.approx(3 / 6, abs=1e-6)
    assert "iou:unseen" not in found
    assert found["mean_iou"] == pytest.approx((6 / 9 + 0.5 + 1) / 3, abs=1e-6)
    assert found["foreground_iou"] == pytest.approx((6 / 9 + 0.5) / 2, abs=1e-6)
    assert found["pixel_accuracy"] == pytest.approx(17 / 20, abs=1e-6)
    assert found["mean_accuracy"] == pytest.approx((6 / 8 + 3 / 4 + 1) / 3, abs=1e-6)


def test_figures_equal_those_of_evaluation(tmp_path):
    import cv2

    rng = np.random.default_rng(0)
    counts = np.zeros((4, 4), np.int64)
    for number in range(3):
        truth, answer = rng.integers(1, 4, (2, 9, 11))
        np.add.at(counts, (truth - 1, answer - 1), 1)
        for name, values in (("truth", truth), ("answer", answer)):
            (tmp_path / name).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), values.astype(np.uint8))
    judged = evaluate(
        ground_truth=str(tmp_path / "truth"),
        predictions=str(tmp_path / "answer"),
        ground_truth_kind="semantic",
        predictions_kind="semantic",
    )["overall"]
    found = figures(counts, TABLE)
    flat = {k: v for part in judged.values() if isinstance(part, dict) for k, v in part.items()}
    for name in ("mean_iou", "pixel_accuracy", "mean_accuracy"):
        assert found[name] == pytest.approx(flat[name], abs=1e-6)


def test_nothing_at_all_is_zero():
    found = figures(np.zeros((4, 4), np.int64), TABLE)
    assert found["mean_iou"] == 0
    assert found["pixel_accuracy"] == 0
