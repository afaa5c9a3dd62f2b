"""SAM everything with real weights: the fast mode and reduced precision against the reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.sam_agreement import SETTINGS, WEIGHTS, agreement, everything, nuclei
from pipeline.masks import codec
from pipeline.models.checkpoints.info import describe
from schemas.records import Segment, Segmentation


@pytest.fixture(autouse=True)
def one_thread() -> object:
    """Small matrices on a shared machine: more threads wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def runs(shared_data: Path) -> dict[str, list[Segmentation]]:
    """Two pictures as the reference, the fast mode and bfloat16 label them."""
    info = describe(str(shared_data / WEIGHTS))
    samples = nuclei(shared_data, 2)
    options = SETTINGS["for nuclei"] | {"points_per_side": 10}
    return {
        name: everything(
            info, samples, device="cpu", dtype=dtype, reference=name == "reference", **options
        )
        for name, dtype in (
            ("reference", "float32"),
            ("fast", "float32"),
            ("bfloat16", "bfloat16"),
        )
    }


def test_the_fast_mode_finds_the_same_masks_to_the_pixel(
    runs: dict[str, list[Segmentation]],
) -> None:
    found = agreement(runs["reference"], runs["fast"])
    assert found.counts[0] > 10
    assert (found.unequal, found.alone) == (0, 0)
    assert found.exact == found.counts[0]
    assert found.meets_the_bar()


def test_bfloat16_finds_nearly_the_same(runs: dict[str, list[Segmentation]]) -> None:
    """What bench/RESULTS.md has to say of it; a fault in the path would cost far more."""
    found = agreement(runs["reference"], runs["bfloat16"])
    assert found.mean > 0.96
    assert found.alone < 0.15 * found.counts[0]


def segmentation(*boxes: tuple[int, int, int, int]) -> Segmentation:
    planes = []
    for top, left, bottom, right in boxes:
        mask = np.zeros((20, 20), np.uint8)
        mask[top:bottom, left:right] = 1
        planes.append(mask)
    return Segmentation(20, 20, segments=tuple(segment(mask) for mask in planes))


def segment(mask: np.ndarray) -> Segment:
    counts = codec.encode(mask)
    return Segment(1, counts, int(mask.sum()), codec.bbox_xywh(counts, *mask.shape))


def test_pairs_are_one_to_one_and_what_is_left_is_counted() -> None:
    one: Sequence[Segmentation] = [segmentation((0, 0, 10, 10), (10, 10, 20, 20)), segmentation()]
    other = [
        segmentation((10, 10, 20, 19), (0, 0, 10, 10), (0, 12, 4, 16)),
        segmentation((0, 0, 2, 2)),
    ]
    found = agreement(one, other)
    assert (found.pictures, found.unequal, found.counts, found.alone) == (2, 2, (2, 4), 2)
    assert sorted(found.ious) == [0.9, 1.0]
    assert found.exact == 1
    assert not found.meets_the_bar()
    assert agreement(one, one).meets_the_bar()
