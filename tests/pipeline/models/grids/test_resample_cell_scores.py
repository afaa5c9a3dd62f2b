"""Scores of semantic segments: sums that do not depend on their order."""

from __future__ import annotations

import numpy as np
import torch

from pipeline.models.grids.resample import found_of, from_units, units


def test_sums_of_units_do_not_depend_on_the_order():
    values = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    forwards, backwards = units(values).sum(), units(values.flip(0)).sum()
    assert forwards == backwards
    assert abs(from_units(forwards.numpy()) - values.double().sum().item()) < 10_000 / 2**25
    assert from_units(units(torch.tensor([0.0, 1.0, 0.25])).numpy()).tolist() == [0, 1, 0.25]


def test_means_over_cells_and_what_has_none():
    found = found_of(
        np.array([2, 0]),
        units(torch.tensor([1.5, 0.0])).numpy(),
        np.array([0.9, 0.4]),
        units(torch.tensor([1.0, 0.0])).numpy(),
    )
    assert found.labels.tolist() == [0, 1]
    assert found.scores.tolist() == [0.75, 0.4]
    assert found.agreement is not None
    assert found.agreement.tolist() == [0.5, 0.5]
