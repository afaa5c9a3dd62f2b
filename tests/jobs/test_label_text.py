"""A text job as its users run it: prompts, photos, Ray; chunks change only what they must."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from ray_cluster import RayCluster
from tiny_sam import sam_checkpoint
from tiny_text import text_checkpoint
from typer.testing import CliRunner

from jobs.label import app

PHOTOS = ("coral_owl.jpg", "coral_pets.jpg", "sam_dog.jpg")
PROMPTS = ("cat", "dog", "red car")
ONE_PHRASE = 5
"""Tokens: room for the longest of `PROMPTS` alone, so that each is read in a text of its own."""
ALL_OF_THEM = 10
"""Tokens: exactly as many as all of them need."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As Ray gives a worker of one CPU: sums in another order differ in their last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def photos(shared_data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in PHOTOS:
        shutil.copy(shared_data / "photos" / name, folder)
    return folder


def label(photos: Path, name: str, *more: str, prompts: tuple[str, ...] = PROMPTS) -> Path:
    """Runs the job; the dataset."""
    out = photos.parent / name
    detector, sam = text_checkpoint("grounding-dino"), sam_checkpoint("sam")
    given = ["--input", str(photos), "--output", str(out), "--model", f"{detector}+{sam}"]
    given += ["--quiet", "--no-report", *more]
    for key in ("model.threshold=0.6", "conflicts.nms_iou=1", "conflicts.nms_ios=1"):
        given += ["--set", key]
    for prompt in prompts:
        given += ["--prompt", prompt]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    return out


def chunks_of(tokens: int) -> tuple[str, str]:
    return "--set", f"prompts.chunk_tokens={tokens}"


def published(out: Path) -> dict[str, bytes]:
    """The files of the current version and its exports."""
    parts = json.loads((out / "manifest.json").read_bytes())["parts"]
    paths = [
        out / table / f"{part['name']}.parquet"
        for part in parts
        for table in ("images", "annotations")
    ]
    paths += [out / "manifest.json", *(p for p in (out / "exports").rglob("*") if p.is_file())]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def rows(out: Path, table: str = "annotations") -> list[dict[str, Any]]:
    parts = json.loads((out / "manifest.json").read_bytes())["parts"]
    return [
        row
        for part in parts
        for row in pq.read_table(out / table / f"{part['name']}.parquet").to_pylist()
    ]


def found(out: Path) -> list[dict[str, Any]]:
    """What was found, without ids and provenance, in an order that no run decides."""
    names = {row["image_id"]: row["file_name"] for row in rows(out, "images")}
    kept = [
        {
            "file": names[row["image_id"]],
            **{key: row[key] for key in ("prompt", "score", "area", "bbox_xywh", "rle")},
        }
        for row in rows(out)
    ]
    return sorted(kept, key=lambda row: json.dumps(row, default=str))


@pytest.mark.slow  # workers import everything anew
def test_on_ray_in_chunks_as_in_one_process(photos: Path, ray_cluster: RayCluster) -> None:
    chunked = chunks_of(ONE_PHRASE)
    ray = ("--set", f"execution.address={ray_cluster.address}", "--workers", "1")
    small = ("--set", "execution.shard_size=1", "--set", "execution.gpus_per_worker=0")
    on_ray = label(photos, "ray", *chunked, *ray, *small)
    inline = label(photos, "inline", *chunked, *small, "--inline")
    assert published(on_ray) == published(inline)
    images = rows(on_ray, "images")
    assert sorted(row["file_name"] for row in images) == sorted(PHOTOS)
    assert all(row["status"] == "ok" and row["error_code"] is None for row in images)
    ids = {name: id_ for id_, name in enumerate(PROMPTS, start=1)}
    annotations = rows(on_ray)
    assert {row["prompt"] for row in annotations} == set(PROMPTS)
    assert all(row["category_id"] == ids[row["prompt"]] for row in annotations)
    coco = json.loads((on_ray / "exports/coco/instances.json").read_bytes())
    assert [(each["id"], each["name"]) for each in coco["categories"]] == [
        (id_, name) for name, id_ in ids.items()
    ]
    assert len(coco["annotations"]) == len(annotations)


def test_chunks_find_what_each_prompt_finds_alone(photos: Path) -> None:
    """And room for all of them is as no limit: the same network input."""
    chunked = found(label(photos, "chunked", *chunks_of(ONE_PHRASE), "--inline"))
    alone = [
        row
        for place, prompt in enumerate(PROMPTS)
        for row in found(label(photos, f"alone-{place}", "--inline", prompts=(prompt,)))
    ]
    assert chunked == sorted(alone, key=lambda row: json.dumps(row, default=str))
    whole = found(label(photos, "whole", "--inline"))
    assert whole == found(label(photos, "roomy", *chunks_of(ALL_OF_THEM), "--inline"))
    assert whole != chunked  # prompts of one text do see each other
