"""The gate: figures worked out by hand, each limit on either side of its number."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.gate import check_gold_set, find_breaches, stability_index
from pipeline.ledger.ledger import Ledger, write_dataset
from pipeline.masks import codec
from pipeline.storage.storage import Storage
from schemas.categories import Categories, Category
from schemas.config.gate import GateConfig
from schemas.records import ErrorCode, Failure, ImageRecord, Segment, Segmentation

TABLE = Categories(
    (
        Category(1, "cell", True, "#4169e1"),
        Category(2, "dust", True, "#87ceeb"),
        Category(3, "background", False, "#101010", is_background=True),
    )
)
Square = tuple[int, int, int, float | None]  # category, left edge, side, score


def found(*squares: Square) -> Segmentation:
    segments = []
    for category, left, side, score in squares:
        labels = np.zeros((16, 64), np.int32)
        labels[:side, left : left + side] = 1
        (region,) = codec.regions(labels)
        segments.append(Segment(category, region.counts, region.area, region.bbox_xywh, score))
    return Segmentation(16, 64, tuple(segments))


def dataset(folder: Path, *pictures: Segmentation | Failure) -> Ledger:
    images = [
        (ImageRecord(f"{n}.png", f"/in/{n}.png", image_id=n + 1), picture)
        for n, picture in enumerate(pictures)
    ]
    return write_dataset(
        str(folder), images, categories=TABLE, task="instance", shard_size=2, model=folder.name
    )


CELL, WIDE, DUST = (1, 0, 4, 0.8), (1, 20, 8, 0.4), (2, 40, 4, 0.8)


@pytest.fixture
def standing(tmp_path: Path) -> Ledger:
    """Four pictures of a cell each, and one that failed: mean area 16, mean score 0.8."""
    failed = Failure(ErrorCode.TRUNCATED, "cut")
    return dataset(tmp_path / "standing", *[found(CELL)] * 4, failed)


@pytest.fixture
def candidate(tmp_path: Path) -> Ledger:
    """1.5 segments a picture of mean area 32, mean score 2/3, a sixth of them dust."""
    pictures = [found(CELL, WIDE), found(CELL, WIDE), found(CELL), found(DUST)]
    return dataset(tmp_path / "candidate", *pictures)


@pytest.mark.parametrize(
    ("key", "kept", "broken", "said"),
    [
        ("max_count_change", 0.51, 0.49, "segments a picture 1 → 1.5, +50.0%, at most 0.49"),
        ("max_area_change", 1.01, 0.99, "mean area 16 → 32, +100.0%, at most 0.99"),
        ("max_score_change", 0.17, 0.16, "mean score 0.8 → 0.6667, -16.7%, at most 0.16"),
        ("max_share_change", 0.17, 0.16, "share of 'cell' 1.000 → 0.833, -0.167, at most 0.16"),
    ],
)
def test_each_drift_is_the_number_worked_out_by_hand(key, kept, broken, said, standing, candidate):
    assert find_breaches(GateConfig.parse({key: kept}), candidate, standing) == []
    (text,) = find_breaches(GateConfig.parse({key: broken}), candidate, standing)
    assert text == f"{said} (gate.{key})"


def test_the_index_of_areas_and_scores(standing, candidate):
    """All were in one bin; a third left it, for one that was empty (a share of 1e-4)."""
    expected = (2 / 3 - 1) * math.log(2 / 3) + (1 / 3 - 1e-4) * math.log(1 / 3 / 1e-4)
    for key, what in (("max_area_psi", "areas"), ("max_score_psi", "scores")):
        (text,) = find_breaches(GateConfig.parse({key: 0.25}), candidate, standing)
        assert text == (
            f"population stability index of {what} {expected:.4f}, at most 0.25 (gate.{key})"
        )
        assert find_breaches(GateConfig.parse({key: 3}), candidate, standing) == []


def test_the_index_by_its_definition():
    rng = np.random.default_rng(0)
    old = np.bincount(rng.integers(0, 10, 10_000), minlength=20)
    assert stability_index(old, old * 3) == 0
    even = np.array([100] * 10 + [0] * 10)
    other = np.array([150] * 5 + [50] * 5 + [0] * 10)
    by_hand = 5 * 0.05 * math.log(1.5) + 5 * -0.05 * math.log(0.5)
    assert stability_index(even, other) == pytest.approx(by_hand)
    nothing = np.zeros(20, np.int64)
    assert stability_index(nothing, nothing) == 0
    assert stability_index(even, nothing) == stability_index(nothing, even) == math.inf


def test_background_and_failed_pictures_are_not_counted(tmp_path, standing):
    same = dataset(tmp_path / "b", *[found(CELL, (3, 20, 16, None))] * 4)
    limits = {"max_count_change": 0, "max_area_change": 0, "max_share_change": 0}
    assert find_breaches(GateConfig.parse(limits), same, standing) == []


def test_nothing_where_something_was_breaks_every_limit(tmp_path, standing):
    keys = [name for name in GateConfig.model_fields if name.startswith("max_")]
    empty = dataset(tmp_path / "empty", *[found()] * 4)
    texts = find_breaches(GateConfig.parse(dict.fromkeys(keys, 0.5)), empty, standing)
    assert len(texts) == len(keys) == 6
    assert texts[0].startswith("segments a picture 1 → 0, -100.0%")
    assert texts[1].startswith("mean area 16 → none, +inf%")
    assert find_breaches(GateConfig.parse(dict.fromkeys(keys, 0)), empty, empty) == []


def test_a_first_version_has_nothing_to_drift_from(candidate):
    assert find_breaches(GateConfig.parse({"max_count_change": 0}), candidate, None) == []


def test_a_damaged_standing_version_is_a_breach_not_a_pass(standing, candidate):
    Path(standing.uri, "images", f"{standing.manifest.parts[0].name}.parquet").unlink()
    (text,) = find_breaches(GateConfig.parse({"max_count_change": 9}), candidate, standing)
    assert text.startswith("drift from version 1 is not known: ")


@pytest.mark.parametrize(
    ("metric", "figure"), [("matching", 0.6), ("ap", 1.0), ("miou", 1.0), ("pq", 1.0)]
)
def test_a_gold_set_holds_figures_to_a_least(metric, figure, tmp_path, standing):
    """Against itself all is 1; with one of four objects elsewhere 3 of 3 + 1 + 1 match."""
    gold = {"ground_truth": standing.uri, f"min_{metric}": 1.0}
    if metric != "matching":
        assert find_breaches(GateConfig.parse(gold), standing, None) == []
        return
    more = dataset(tmp_path / "more", *[found(CELL)] * 3, found((1, 30, 4, 0.9)))
    (text,) = find_breaches(GateConfig.parse(gold), more, None)
    assert text == f"matching {figure}, at least 1 (gate.min_matching)"
    gold["min_matching"] = figure
    assert find_breaches(GateConfig.parse(gold), more, None) == []


def test_what_cannot_be_measured_is_a_breach(tmp_path):
    nothing = dataset(tmp_path / "nothing", found(), found())
    gold = {"ground_truth": nothing.uri, "min_ap": 0}
    (text,) = find_breaches(GateConfig.parse(gold), nothing, None)
    assert text == "ap cannot be measured, at least 0 (gate.min_ap)"


def test_mistakes_show_before_anything_is_read(tmp_path, standing):
    gate = GateConfig.parse({"ground_truth": str(tmp_path / "no"), "min_pq": 0.5})
    with pytest.raises(ValueError, match=r"gate\.ground_truth: no such file or folder: .*/no"):
        check_gold_set(gate, Storage())
    check_gold_set(GateConfig.parse({"ground_truth": standing.uri, "min_pq": 1}), Storage())
    check_gold_set(GateConfig(), Storage())
