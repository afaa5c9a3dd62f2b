"""A dataset of several tasks is compared by the task that suits the other side."""

from __future__ import annotations

import pytest
from small_datasets import small_dataset
from typer.testing import CliRunner

from jobs.evaluate import app
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.sources.open import open_source
from pipeline.exporters import export
from schemas.records import TASKS


@pytest.fixture
def truth(tmp_path):
    """task → ground truth that wants it: our dataset, COCO instances, panoptic JSON, semantic."""
    whole = small_dataset(tmp_path / "truth", TASKS)
    for name in ("coco-instances", "coco-panoptic", "semantic-png"):
        export(whole, name, str(tmp_path / name))
    return {
        "instance": tmp_path / "coco-instances/instances.json",
        "panoptic": tmp_path / "coco-panoptic/panoptic.json",
        "semantic": tmp_path / "semantic-png",
    }


@pytest.mark.parametrize("task", TASKS)
def test_the_ground_truth_says_which_task(task, truth, tmp_path):
    several = small_dataset(tmp_path / "several", TASKS)
    alone = small_dataset(tmp_path / "alone", task)
    results = [
        evaluate(dataset=ledger.uri, ground_truth=str(truth[task])) for ledger in (several, alone)
    ]
    assert results[0]["settings"].pop("predictions") != results[1]["settings"].pop("predictions")
    assert results[0] == results[1]
    assert results[0]["settings"]["predictions_task"] == task


@pytest.mark.parametrize(
    ("held", "other", "chosen"),
    [
        (("semantic", "panoptic"), "instance", "panoptic"),
        (("instance", "panoptic"), "semantic", "panoptic"),
        (("semantic", "instance"), "panoptic", "instance"),
        (("semantic", "instance"), "semantic", "semantic"),
    ],
)
def test_where_the_task_itself_is_missing_the_nearest_is_taken(held, other, chosen, tmp_path):
    several = small_dataset(tmp_path / "several", held)
    truth = small_dataset(tmp_path / "truth", other)
    result = evaluate(dataset=several.uri, ground_truth=truth.uri)
    assert result["settings"]["predictions_task"] == chosen
    turned = evaluate(dataset=truth.uri, ground_truth=several.uri)
    assert turned["settings"]["ground_truth_task"] == chosen


def test_two_datasets_of_several_tasks_are_compared_by_what_says_most(tmp_path):
    one, two = (small_dataset(tmp_path / name, TASKS) for name in "ab")
    settings = evaluate(dataset=one.uri, ground_truth=two.uri)["settings"]
    assert (settings["predictions_task"], settings["ground_truth_task"]) == ("panoptic",) * 2
    settings = evaluate(dataset=one.uri, ground_truth=two.uri, task="semantic")["settings"]
    assert (settings["predictions_task"], settings["ground_truth_task"]) == ("semantic",) * 2


def test_a_task_can_be_named(tmp_path, truth):
    ours = small_dataset(tmp_path / "ours", ("semantic", "instance")).uri
    words = ["--dataset", ours, "--ground-truth", str(truth["instance"]), "-q"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert CliRunner().invoke(app, [*words, "--task", "instance"]).exit_code == 0
    for task, message in (
        ("panoptic", "the dataset holds no panoptic labels, only semantic, instance"),
        ("instanse", "unknown task 'instanse'; did you mean 'instance'?"),
    ):
        result = CliRunner().invoke(app, [*words, "--task", task])
        assert result.exit_code == 2
        assert message in result.stderr


def test_a_file_has_no_task_to_choose(truth):
    with pytest.raises(ValueError, match="is no dataset of ours: there is no task to choose"):
        open_source(str(truth["instance"]), task="instance")
