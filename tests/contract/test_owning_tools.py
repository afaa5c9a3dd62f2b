"""Round trips through the programs that own the formats, in an environment of `tests/tools.lock`.

They want other versions of numpy and pyarrow than ours, so they are never installed beside it.
`MASKMILL_TOOLS_PYTHON` names the Python of such an environment that is there already.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_datasets import EMPTY, panoptic_map
from source_tree import ROOT
from typer.testing import CliRunner

from jobs.review import app as review
from pipeline.engine.run import label
from pipeline.exporters import export
from pipeline.exporters.pictures import flat_name
from pipeline.ledger.ledger import Ledger, open_ledger
from schemas.config.job import JobConfig

pytestmark = pytest.mark.slow

FORMATS = ("label-studio", "cvat", "coco-polygons", "coco-flat")


@pytest.fixture(scope="module")
def tools_python(tmp_path_factory) -> str:
    """The Python that has the tools."""
    if known := os.environ.get("MASKMILL_TOOLS_PYTHON"):
        return known
    folder = tmp_path_factory.mktemp("tools")
    python = str(folder / "venv" / "bin" / "python")
    uv = [sys.executable, "-m", "uv", "--quiet"]
    lock = ["--require-hashes", str(ROOT / "tests" / "tools.lock")]
    for words in (
        ["venv", "--python", sys.executable, str(folder / "venv")],
        ["pip", "sync", "--python", python, *lock],
    ):
        done = subprocess.run([*uv, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"needs a package index: {done.stderr.strip()[-200:]}")
    return python


PICTURES = {"plain.png": 7, "sub/turned.jpg": 8, "sub/other.png": 9, "zz.bmp": EMPTY}
TURNED = "sub/turned.jpg"
ZOOM = 3


def picture(number: int) -> Image.Image:
    """A ring, two parts, a corner and a diagonal in white; nothing in one of them."""
    labels = panoptic_map(number)
    bright = np.where((labels > 0) & (labels < 6), 220, 20).astype(np.uint8)
    return Image.fromarray(np.kron(bright, np.ones((ZOOM, ZOOM), np.uint8)))


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    """Four labelled pictures, one of them stored turned and one of them empty."""
    for name, number in PICTURES.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        stored, exif = picture(number), Image.Exif()
        if name == TURNED:
            stored = stored.transpose(Image.Transpose.ROTATE_90)
            exif[0x0112] = 6  # readers turn it by 90° clockwise
        stored.save(path, exif=exif)
    config = {
        "input": {"uri": str(tmp_path / "in")},
        "output": str(tmp_path / "data"),
        "model": {"name": "otsu"},
        "task": ["instance"],
        "execution": {"inline": True},
    }
    label(JobConfig.parse(config), export=False, report=False)
    return open_ledger(str(tmp_path / "data"))


def masks_of(ledger: Ledger) -> list[list[str]]:
    """File name, category and RLE string of every segment, sorted."""
    return sorted(
        [image["file_name"], row["category"], row["rle"]["counts"]]
        for image, found in ledger.rows()
        for row in found
    )


def ask(python: str, *roots: Path) -> list[dict[str, Any]]:
    """Runs the tools on the exports of some folders."""
    script = str(ROOT / "tests" / "support" / "owning_tools.py")
    words = [python, script, *map(str, roots)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=roots[0])
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def exported(ledger: Ledger, root: Path) -> Path:
    """The dataset in every format that the tools read, and its pictures upright."""
    for name in FORMATS:
        export(ledger, name, str(root / name))
    for name, number in PICTURES.items():
        path = root / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    return root


def test_owners_read_the_ledger_s_pixels_and_their_corrections_come_back(
    tools_python, ledger, tmp_path
):
    root, due = exported(ledger, tmp_path / "exports"), masks_of(ledger)
    (answer,) = ask(tools_python, root)
    found = answer["found"]
    for name in ("label-studio", "cvat", "coco-polygons"):
        assert sorted(found[name]) == due, name
    written = json.loads((root / "coco-polygons/instances_polygons.json").read_bytes())
    polygons = sum(len(item["segmentation"]) for item in written["annotations"])
    assert found["converter"] == {"polygonlabels": polygons, "rectanglelabels": len(due)}
    shapes = {row["file_name"]: row["num_segments"] for row, _ in ledger.rows()}
    assert found["coco-flat"] == {
        flat_name(row, ""): [row["height"], row["width"], shapes[row["file_name"]]]
        for row, _ in ledger.rows()
    }
    # Label Studio → us → Label Studio and CVAT → us → CVAT.
    again = {}
    for name, file in (("label-studio", "ls.json"), ("cvat", "cvat.zip")):
        uri = str(tmp_path / f"data-{name}")
        shutil.copytree(ledger.uri, uri)
        done = CliRunner().invoke(review, [uri, "--import", str(root / file), "--by", "ada"])
        assert done.exit_code == 0, done.output
        corrected = sorted(answer["corrected"][name])
        assert corrected != due
        assert masks_of(open_ledger(uri)) == corrected
        again[name] = exported(open_ledger(uri), tmp_path / f"again-{name}"), corrected
    answers = ask(tools_python, *(folder for folder, _ in again.values()))
    for (name, (_, corrected)), answer in zip(again.items(), answers, strict=True):
        assert sorted(answer["found"][name]) == corrected, name
