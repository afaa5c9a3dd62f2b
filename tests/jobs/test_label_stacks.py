"""jobs.label on z-stacks, channels and planes as images: what was left out is said everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from typer.testing import CliRunner

from jobs import label, measure
from pipeline.images import large, memory
from pipeline.ledger.ledger import open_ledger

RUN = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two z-stacks, each plane with another number of squares, and a file of two channels."""
    root = tmp_path_factory.mktemp("stacks")
    stack = np.full((3, 64, 64), 100, np.uint16)
    for plane in range(3):
        for square in range(plane + 1):
            stack[plane, 8:20, 4 + 20 * square : 16 + 20 * square] = 9000
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(root / name, stack, imagej=True, metadata={"axes": "ZYX"})
    channels = np.stack((stack[0], stack[2]))
    tifffile.imwrite(
        root / "c.ome.tif",
        channels,
        ome=True,
        metadata={
            "axes": "CYX",
            "Channel": {"Name": ["GFP", "DAPI"]},
            "PhysicalSizeX": 0.5,
            "PhysicalSizeY": 0.5,
        },
    )
    return root


def run(job: Any, *arguments: object, code: int = 0) -> str:
    done = RUN.invoke(job.app, [str(item) for item in arguments])
    assert done.exit_code == code, done.output
    return done.output


def labelled(folder: Path, out: Path, *more: str, code: int = 0) -> str:
    base = ("--input", folder, "--output", out, "--model", "otsu", "--task", "instance", "--inline")
    shown = () if "--report" in more else ("--no-report",)
    return run(label, *base, "--no-export", *shown, *more, code=code)


def rows(out: Path) -> dict[str, dict[str, Any]]:
    found = [row for path in (out / "images").glob("*") for row in pq.read_table(path).to_pylist()]
    return {row["file_name"]: row for row in found}


def test_without_a_choice_everything_says_so(folder, tmp_path):
    out = tmp_path / "out"
    said = "3 images were read in part: 2 z-stacks, 1 of 2 channels; see images.page"
    assert said in labelled(folder, out, "--report")
    notes = {name: row["note"] for name, row in rows(out).items()}
    assert notes["a.tif"] == notes["b.tif"] == "first of 3 planes of a z-stack"
    assert notes["c.ome.tif"] == "first of 2 channels"
    assert said in (out / "report" / "index.html").read_text()
    assert open_ledger(str(out)).manifest.in_part == {
        "images": 3, "z-stack": 2, "of 2 channels": 1
    }  # fmt: skip
    assert said in labelled(folder, out)  # nothing changed, and still
    told = run(measure, "--dataset", out, "--output", tmp_path / "o.parquet")
    assert said in " ".join(told.split())
    assert "pixel size known of 1" in told
    assert "µm²" in told
    sizes = pq.read_table(tmp_path / "o.images.parquet").to_pylist()
    known = {row["file_name"]: row["pixel_size_um"] for row in sizes}
    assert known == {"a.tif": None, "b.tif": None, "c.ome.tif": 0.5}


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        (["images.page=3"], {"a.tif": 3, "b.tif": 3}),
        (["images.projection=max"], {"a.tif": 3, "b.tif": 3, "c.ome.tif": 1}),
        (['images.channels=["DAPI"]'], {"c.ome.tif": 3}),
    ],
)
def test_a_choice_changes_what_is_counted(folder, tmp_path, options, counts):
    chosen = [text for one in options for text in ("--set", one)]
    labelled(folder, tmp_path / "out", "--max-failures", "2", *chosen)
    found = {k: row["num_segments"] for k, row in rows(tmp_path / "out").items() if k in counts}
    assert found == counts


def test_every_plane_as_an_image_of_its_own(folder, tmp_path):
    out = tmp_path / "out"
    text = labelled(folder, out, "--set", "images.each=z")
    assert "1 image was read in part: 1 of 2 channels" in text
    found = rows(out)
    assert sorted(found) == [
        *(f"{name}.tif#z={plane}" for name in "ab" for plane in (1, 2, 3)),
        "c.ome.tif",
    ]
    third = found["b.tif#z=3"]
    assert third["num_segments"] == 3
    assert (third["parent_file_name"], third["plane_axis"], third["plane_index"]) == (
        "b.tif", "z", 3
    )  # fmt: skip
    assert found["c.ome.tif"]["parent_file_name"] is None
    assert len({row["fingerprint"] for name, row in found.items() if name[0] == "a"}) == 3
    assert "nothing changed" in labelled(folder, out, "--set", "images.each=z")
    told = run(measure, "--dataset", out, "--output", tmp_path / "o.parquet")
    assert "no intensities" not in told
    measured = pq.read_table(tmp_path / "o.parquet").to_pylist()
    means = {row["intensity_mean"][0] for row in measured if row["file_name"] == "a.tif#z=3"}
    assert means == {9000.0}


def test_what_one_worker_has_no_memory_for_another_may_do(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as less:
        less.setattr(memory, "worker_memory", lambda: 1000)
        labelled(folder, out, code=1)
    failed = rows(out)
    assert {row["error_code"] for row in failed.values()} == {"too_large"}
    assert {row["fingerprint"] for row in failed.values()} == {""}
    text = labelled(folder, out, "--retry-failed")
    assert "ok 3" in text


def test_tiles_of_a_slide_give_what_the_decoded_image_gives(tmp_path, monkeypatch):
    """The same masks, whether the pixels are in memory or in the file."""
    scene = np.full((700, 900, 3), 30, np.uint8)
    for place in range(12):
        y, x = 60 + 150 * (place // 4), 50 + 210 * (place % 4)
        scene[y : y + 90, x : x + 110] = 200 + place
    (tmp_path / "in").mkdir()
    tifffile.imwrite(
        tmp_path / "in" / "slide.tif", scene, tile=(128, 128), photometric="rgb", compression="jpeg"
    )
    tiles = ("--tile-size", "256", "--tile-overlap", "64")
    labelled(tmp_path / "in", tmp_path / "decoded", *tiles)
    monkeypatch.setattr("pipeline.images.large.LARGE", 1)
    opened = []
    kept = large.SlidePixels.__getitem__
    monkeypatch.setattr(
        large.SlidePixels,
        "__getitem__",
        lambda self, place: opened.append(place) or kept(self, place),
    )
    labelled(tmp_path / "in", tmp_path / "tiles", *tiles)
    assert opened
    tables = [
        [row for path in sorted((tmp_path / out / "annotations").glob("*")) for row in
         pq.read_table(path).to_pylist()]
        for out in ("decoded", "tiles")
    ]  # fmt: skip
    assert tables[0] == tables[1]
    assert len(tables[0]) == 12
