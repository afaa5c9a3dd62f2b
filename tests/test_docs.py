"""The documents say what is: snippets run, flags and keys exist, every column is described."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import get_args

import cv2
import pytest
import typer
from document_commands import (
    DOCUMENTS,
    JOB_COMMANDS,
    SHOWN,
    TOOL_COMMANDS,
    blocks,
    commands,
    job_of,
    values,
)
from source_tree import ROOT

from examples.simulate import render_field
from pipeline.exporters import EXPORTERS
from pipeline.models.checkpoints.catalog import catalog
from pipeline.models.checkpoints.families import BUNDLED
from schemas.config.export import ExportConfig
from schemas.config.job import JobConfig
from schemas.config.keys import keys_of
from schemas.config.training import Architecture, SemanticTrainConfig
from schemas.manifest import DatasetManifest, Part, ShardReceipt
from schemas.prompts import Ontology
from schemas.records import ErrorCode, Status
from schemas.tables import ANNOTATIONS, IMAGES

DATA_FORMAT = (ROOT / "docs" / "data-format.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", SHOWN, ids=" ".join)
def test_jobs_and_flags_exist(command):
    job = typer.main.get_command(importlib.import_module(job_of(command)).app)
    known = {name for param in job.params for name in (*param.opts, *param.secondary_opts)}
    used = {word.split("=")[0] for word in command if re.match(r"-{1,2}[a-z]", word)} - {"-m"}
    assert used <= known | {"--help"}


def test_both_spellings_are_shown_and_the_tool_s_own_flags_exist():
    assert len(TOOL_COMMANDS) > 40
    own = {command[1] for command in TOOL_COMMANDS if command[1].startswith("-")}
    assert own == {"--help", "--install-completion"}


@pytest.mark.parametrize("command", [c for c in SHOWN if "--model" in c], ids=" ".join)
def test_models_exist(command):
    names = BUNDLED | catalog().keys()
    if job_of(command) == "jobs.train":
        names = frozenset(get_args(Architecture))
    for model in values(command, "--model"):
        if "/" not in model and not model.endswith(("…", ".onnx")) and model != "NAME":
            assert {part.strip() for part in model.split("+")} <= names, model


@pytest.mark.parametrize("command", [c for c in SHOWN if "--format" in c], ids=" ".join)
def test_formats_exist(command):
    names = {"jobs.export": EXPORTERS, "jobs.review": ("label-studio", "cvat", "coco")}
    assert set(values(command, "--format")) <= set(names[job_of(command)])


def test_the_readme_shows_every_job():
    jobs = {path.stem for path in (ROOT / "jobs").glob("*.py") if "app = typer" in path.read_text()}
    assert {command[2].removeprefix("jobs.") for command in JOB_COMMANDS} == jobs


@pytest.mark.parametrize("command", [c for c in SHOWN if "--set" in c], ids=" ".join)
def test_keys_of_set_exist(command):
    own = {"jobs.train": SemanticTrainConfig, "jobs.export": ExportConfig}
    names = {key.name for key in keys_of(own.get(job_of(command), JobConfig))}
    for setting in values(command, "--set"):
        assert setting.partition("=")[0] in names, setting


def test_toml_examples_are_valid_jobs():
    texts = [text for path in DOCUMENTS for text in blocks(path, "toml")]
    texts.append((ROOT / "jobs" / "configs" / "demo.toml").read_text(encoding="utf-8"))
    assert len(texts) >= 2
    for text in texts:
        if "[[category]]" in text:
            Ontology.from_toml(text, "example")
        elif "epochs" in text:
            SemanticTrainConfig.parse(tomllib.loads(text))
        else:
            data = tomllib.loads(text)  # a part of a job is shown where the rest is not the point
            data.setdefault("input", {"uri": "photos"})
            data.setdefault("output", "out")
            data.setdefault("model", {}).setdefault("name", "unet-nuclei")
            JobConfig.parse(data)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    named = {command[1] for command in commands("make ") if re.fullmatch("[a-z]+", command[1])}
    assert {"setup", "test", "check", "demo"} <= named <= targets
    shown = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert set(re.findall(r"^  make ([a-z]+) ", shown.stdout, re.MULTILINE)) == targets


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(\s*([^)#\s]*)(?:#([^)\s]*))?\)", text):
        if "://" not in target:
            page = path.parent / target if target else path
            assert page.exists(), target
            assert not anchor or anchor in anchors(page), f"{target}#{anchor}"


def anchors(path: Path) -> set[str]:
    """What links to the headings of a document are called."""
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


SNIPPETS = [
    (path, number)
    for path in ("README.md", "docs/results.md")
    for number in range(len(blocks(ROOT / path, "python")))
]
"""Documents whose Python stands alone, beside a dataset `out/` of `photos/`."""


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """A folder in which the README's first labelling command has been run, without Ray."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "photos").mkdir()
    for seed, name in enumerate(("a.jpg", "b.png"), 1):
        pixels = render_field(seed, size_hw=(96, 96), nuclei=4).pixels
        cv2.imwrite(str(folder / "photos" / name), pixels)
    command = next(c for c in JOB_COMMANDS if "photos/" in c)
    done = subprocess.run(
        [sys.executable, *command[1:], "--inline"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(("path", "number"), SNIPPETS, ids=str)
def test_python_snippets_run(labelled, path, number):
    code = blocks(ROOT / path, "python")[number]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=labelled,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HF_HOME": str(labelled / "hf"),
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_dataset_holds_what_the_format_says(labelled):
    tree = DATA_FORMAT.split("```")[1]
    named = re.findall(r"^  (\S+(?: [\w/]+/)?)", tree, re.MULTILINE)
    described = {re.split("[<*]", word)[0].rstrip("/") for line in named for word in line.split()}
    for path in (labelled / "out").rglob("*"):
        name = path.relative_to(labelled / "out").as_posix()
        if path.is_file():
            parents = {name, *(parent.as_posix() for parent in Path(name).parents)}
            assert parents & described or re.fullmatch(r"versions/\d{6}\.json", name), name


def table_keys(heading: str) -> set[str]:
    """First-column names of the table under a heading of docs/data-format.md."""
    section = re.split(r"^#+ ", DATA_FORMAT, flags=re.MULTILINE)
    body = next(text for text in section if text.startswith(heading))
    rows = re.findall(r"^\| (`[^|]+) \|", body, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_every_column_and_key_is_described():
    assert table_keys("images") == set(IMAGES.names)
    assert table_keys("annotations") == set(ANNOTATIONS.names)
    assert table_keys("manifest.json") == {item.name for item in fields(DatasetManifest)}
    assert table_keys("Error codes") == {str(code) for code in ErrorCode}
    for name in [
        *(item.name for item in fields(Part)),
        *(item.name for item in fields(ShardReceipt)),
    ]:
        assert f"`{name}`" in DATA_FORMAT, name
    for status in Status:
        assert f"`{status}`" in DATA_FORMAT
