"""Limits of the gate: which belong together, and what they may be."""

from __future__ import annotations

import pytest

from schemas.config.gate import GateConfig
from schemas.config.job import JobConfig

JOB = {"input": {"uri": "in"}, "output": "out", "model": {"name": "otsu"}}


def test_limits_by_metric_and_by_key():
    gate = GateConfig.parse({"ground_truth": "gold", "min_ap": 0, "min_pq": 1, "max_area_psi": 0})
    assert gate.least() == {"ap": 0, "pq": 1}
    assert gate.most() == {"max_area_psi": 0}
    assert (gate.active, GateConfig().active) == (True, False)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"min_ap": 0.5, "min_miou": 0.5}, "gate: min_ap, min_miou without ground_truth"),
        ({"ground_truth": "gold"}, "gate: ground_truth without a limit: name min_ap, min_pq"),
        ({"min_pq": 70}, r"gate\.min_pq: should be less than or equal to 1, got 70"),
        ({"max_count_change": -1}, r"gate\.max_count_change: should be greater than"),
        ({"max_counts_change": 1}, r"unknown key 'gate\.max_counts_change'.*max_count_change"),
    ],
)
def test_mistakes_are_one_line_that_names_the_key(data, said):
    with pytest.raises(ValueError, match=said) as error:
        JobConfig.parse({**JOB, "gate": data})
    assert "\n" not in str(error.value)


def test_a_gold_set_with_credentials_is_refused():
    gate = {"ground_truth": "https://me:pw@host/gold.json", "min_ap": 0.5}
    with pytest.raises(ValueError, match=r"gate\.ground_truth: .* came with credentials") as error:
        JobConfig.parse({**JOB, "gate": gate})
    assert "pw@" not in str(error.value)


def test_limits_change_no_version():
    gated = JobConfig.parse({**JOB, "gate": {"max_area_psi": 0.1}})
    assert gated.published() == JobConfig.parse(JOB).published()
