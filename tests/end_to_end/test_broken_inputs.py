"""Inputs as people have them, from the command to manifest, report and last lines."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from pictures import write_pictures
from typer.testing import CliRunner

from jobs.label import app
from pipeline.history.prune import prune
from pipeline.ledger.containers import read_containers
from pipeline.ledger.ledger import open_ledger
from pipeline.storage.storage import Storage


def label(source: Path | str, out: Path, *more: str, stdin: str | None = None):
    """Exit code and what was said."""
    arguments = ["--input", str(source), "--output", str(out), "--model", "otsu", "--inline"]
    result = CliRunner().invoke(app, [*arguments, "--task", "instance", *more], input=stdin)
    return result.exit_code, result.output


def statuses(out: Path) -> dict[str, str]:
    ledger = open_ledger(str(out))
    return {image["file_name"]: image["status"] for image, _ in ledger.rows()}


def tar_of(path: Path, pictures: list[Path]) -> bytes:
    with tarfile.open(path, "w") as tar:
        for picture in pictures:
            tar.add(picture, picture.name)
    return path.read_bytes()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    write_pictures(tmp_path / "pictures", 6)
    return sorted((tmp_path / "pictures").rglob("*.png"))


def test_one_bad_tar_is_a_row_and_the_others_are_labelled(tmp_path, pictures):
    shards, out = tmp_path / "shards", tmp_path / "out"
    shards.mkdir()
    whole = tar_of(shards / "a.tar", pictures[:3])
    tar_of(shards / "b.tar", pictures[3:])
    (shards / "a.tar").write_bytes(whole[: whole.rindex(pictures[2].name.encode()) + 600])
    (shards / "page.tar").write_bytes(b"<!DOCTYPE html>" * 50)
    (shards / "photo.dng").write_bytes(b"raw")
    code, said = label(shards, out, "--no-export")
    assert code == 0
    assert list(statuses(out).values()) == ["ok"] * 5
    manifest = open_ledger(str(out)).manifest
    assert {k: v for k, v in manifest.containers.items() if k != "table"} == {
        "ok": 1, "partial": 1, "failed": 1
    }  # fmt: skip
    rows = read_containers(Storage(), str(out), manifest)
    assert [(Path(row.uri).name, row.status, row.images) for row in rows] == [
        ("a.tar", "partial", 2), ("b.tar", "ok", 3), ("page.tar", "failed", 0)
    ]  # fmt: skip
    assert f"partial: {shards}/a.tar: cut off: it ends inside {pictures[2].name}" in said
    assert f"failed: {shards}/page.tar: no tar: it begins with" in said
    assert "PICTURES LEFT OUT: 1 × .dng: camera raw is not read" in said
    page = (out / "report" / "index.html").read_text()
    assert "cut off: it ends inside" in page
    assert "1 of them are pictures" in page
    assert label(shards, out, "--no-export", "--max-failures", "2")[0] == 0
    code, said = label(shards, out, "--no-export", "--max-failures", "1")
    assert code == 1
    assert "0 images and 2 containers failed, 1 allowed" in said
    tar_of(shards / "a.tar", pictures[:3])
    (shards / "page.tar").unlink()
    assert label(shards, out, "--no-export", "--max-failures", "0")[0] == 0
    assert open_ledger(str(out)).manifest.containers["partial"] == 0
    tables = {path.name for path in (out / "containers").iterdir()}
    assert len(tables) == 2
    (out / "versions" / "000001.json").unlink()
    prune(str(out), Storage())
    assert len(list((out / "containers").iterdir())) == 1


def test_nothing_that_can_be_read_is_exit_code_2(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.tar", "b.tar"):
        (tmp_path / "in" / name).write_bytes(b"")
    code, said = label(tmp_path / "in", tmp_path / "out")
    assert code == 2
    assert f"nothing could be read: {tmp_path}/in/a.tar: the file is empty (0 bytes)" in said
    assert "(and 1 more)" in said


def test_a_link_to_itself_stops_nothing(tmp_path, pictures):
    os.symlink("notes", pictures[0].parent / "notes")
    code, said = label(pictures[0].parent, tmp_path / "out", "--no-export", "--no-report")
    assert code == 0
    assert "left out: 1 × no extension" in said


def test_a_name_of_244_bytes_is_exported(tmp_path, pictures):
    folder = tmp_path / "long"
    folder.mkdir()
    for name in ("日" * 80 + ".png", "a" * 251 + ".png", "a" * 251 + ".bmp"):
        (folder / name).write_bytes(pictures[0].read_bytes())
    arguments = ["--input", str(folder), "--output", str(tmp_path / "out"), "--model", "otsu",
                 "--inline", "--task", "semantic"]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert set(statuses(tmp_path / "out").values()) == {"ok"}
    assert len(list((tmp_path / "out" / "exports" / "semantic").glob("*.png"))) == 3


def test_a_list_on_standard_input(tmp_path, pictures):
    text = "\n".join(map(str, pictures[:2]))
    code, _ = label("-", tmp_path / "out", "--no-export", stdin=text)
    assert code == 0
    assert list(statuses(tmp_path / "out").values()) == ["ok", "ok"]
    code, said = label("-", tmp_path / "out", "--no-export", stdin=text)
    assert code == 0
    assert "nothing changed" in said
    code, said = label("-", tmp_path / "out", "--no-export", stdin=text + f"\n{pictures[2]}")
    assert "3 images (1 computed" in said


def test_a_plain_tar_with_dots_and_sidecars(tmp_path, pictures):
    buffer = tmp_path / "x.tar"
    with tarfile.open(buffer, "w") as tar:
        for n, picture in enumerate(pictures[:2]):
            tar.add(picture, f"2024.01.1{n}.png")
        for n in range(2):
            tar.addfile(tarfile.TarInfo(f"2024.01.1{n}.json"), io.BytesIO())
    code, said = label(buffer, tmp_path / "out", "--no-export", "--input-format", "tar")
    assert code == 0
    assert list(statuses(tmp_path / "out")) == ["x.tar/2024.01.10.png", "x.tar/2024.01.11.png"]
    code, said = label(buffer, tmp_path / "out2", "--no-export")
    assert code == 2
    assert "--input-format tar takes each of them" in said
