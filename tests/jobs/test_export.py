from __future__ import annotations

import json

import pytest
from small_datasets import NAMES, small_dataset
from typer.testing import CliRunner

from jobs.export import app


def run(*words: str):
    return CliRunner().invoke(app, list(words))


def test_writes_the_format_into_the_folder_and_says_where(tmp_path):
    dataset = small_dataset(tmp_path / "data").uri
    out = tmp_path / "out"
    words = ("--dataset", dataset, "--format", "coco-panoptic", "--output", str(out), "-q")
    for _ in range(2):
        result = run(*words)
        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            f"{out}/panoptic.json: {len(NAMES)}",
            f"{out}/panoptic: {len(NAMES)}",
        ]
    assert len(json.loads((out / "panoptic.json").read_bytes())["annotations"]) == len(NAMES)
    assert len(list((out / "panoptic").rglob("*.png"))) == len(NAMES)


def test_a_relative_output_is_the_callers(tmp_path, monkeypatch):
    dataset = small_dataset(tmp_path / "data", "instance").uri
    monkeypatch.chdir(tmp_path)
    result = run("--dataset", "data", "--format", "coco-instances", "--output", "here")
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path}/here/instances.json: 35\n"
    assert "exporting 9 images" in result.stderr
    assert (tmp_path / "here" / "instances.json").is_file()
    assert dataset == str(tmp_path / "data")


def test_one_of_several_tasks_can_be_named(tmp_path):
    dataset = small_dataset(tmp_path / "data", ("instance", "panoptic")).uri
    words = ("--dataset", dataset, "--format", "coco-instances", "-q")
    for more, task in (((), "instance"), (("--task", "panoptic"), "panoptic")):
        out = tmp_path / task
        assert run(*words, "--output", str(out), *more).exit_code == 0
        assert json.loads((out / "instances.json").read_bytes())["info"]["task"] == task
    result = run(*words, "--output", str(tmp_path / "out"), "--task", "semantic")
    assert result.exit_code == 2
    assert "the dataset holds no semantic labels, only instance, panoptic" in result.stderr


@pytest.mark.parametrize(
    ("format_", "message"),
    [
        ("coco-instance", "unknown format 'coco-instance'; did you mean 'coco-instances'?"),
        ("semantic-png", "needs a dataset of task semantic or panoptic, this one's is instance"),
    ],
)
def test_a_format_that_cannot_be_is_one_line_and_exit_2(format_, message, tmp_path):
    dataset = small_dataset(tmp_path / "data", "instance").uri
    out = tmp_path / "out"
    result = run("--dataset", dataset, "--format", format_, "--output", str(out), "-q")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not out.exists()


def test_no_dataset_a_full_folder_and_an_unwritable_one_are_exit_2(tmp_path):
    dataset = small_dataset(tmp_path / "data").uri
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    for source, output, message in (
        (str(tmp_path), "out", "holds no dataset of ours"),
        (dataset, "photos", "is not empty"),
        (dataset, "file/out", "file"),
    ):
        words = ("--format", "semantic-png", "--output", str(tmp_path / output), "-q")
        result = run("--dataset", source, *words)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
    assert (tmp_path / "photos" / "a.png").read_bytes() == b""


def test_a_key_of_the_section_is_set_and_a_wrong_one_named(tmp_path):
    dataset = small_dataset(tmp_path / "data", "instance").uri
    words = ("--dataset", dataset, "--format", "coco-polygons", "-q")
    assert run(*words, "--output", str(tmp_path / "a"), "--set", "tolerance=1.5").exit_code == 0
    assert run(*words, "--output", str(tmp_path / "b")).exit_code == 0
    stamps = [json.loads((tmp_path / n / "exports.json").read_bytes())["formats"] for n in "ab"]
    assert [item["coco-polygons"]["options"]["tolerance"] for item in stamps] == [1.5, 0]
    result = run(*words, "--output", str(tmp_path / "c"), "--set", "tolerence=1")
    assert result.exit_code == 2
    assert "unknown key 'tolerence'; did you mean 'tolerance'?" in result.stderr
    assert not (tmp_path / "c").exists()


def test_help_shows_the_formats_and_an_example():
    result = run("--help")
    assert result.exit_code == 0
    for word in ("coco-instances", "semantic-png-stuffthing", "Example:"):
        assert word in " ".join(result.stdout.split())
