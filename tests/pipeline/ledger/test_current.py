"""What readers find who know nothing of us: a glob counts what the manifest counts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars
import pytest
import yaml
from datasets import load_dataset
from pictures import disc_picture, write_pictures
from PIL import Image
from small_datasets import NAMES, small_dataset

from pipeline.engine.run import RunResult, label
from pipeline.history.prune import prune
from pipeline.ledger.current import show_current, stale_parts
from pipeline.ledger.ledger import open_ledger, publish
from pipeline.storage.storage import Storage
from pipeline.validation.validate import validate
from schemas.config.job import JobConfig

STORAGE = Storage()


def run(folder: Path, *, shard_size: int = 4, tasks: Any = None, **model: Any) -> RunResult:
    return label(
        JobConfig.parse(
            {
                **({"task": tasks} if tasks else {}),
                "input": {"uri": str(folder / "in")},
                "output": str(folder / "out"),
                "model": {"name": "otsu", **model},
                "execution": {"inline": True, "shard_size": shard_size},
            }
        )
    )


def counted(out: Path) -> dict[str, set[int]]:
    """Rows of both tables by every reader's habit."""
    found: dict[str, set[int]] = {}
    for table in ("images", "annotations"):
        query = f"SELECT count(*) FROM '{out}/{table}/*.parquet'"
        found[table] = {
            duckdb.sql(query).fetchall()[0][0],
            polars.scan_parquet(out / table).select(polars.len()).collect().item(),
        }
    return found


def due(result: RunResult) -> dict[str, set[int]]:
    return {table: {result.manifest.counts[table]} for table in ("images", "annotations")}


def load(out: Path, cache: Path, *config: str) -> Any:
    return load_dataset(str(out), *config, cache_dir=str(cache))


def test_globs_and_load_dataset_count_what_the_manifest_counts(tmp_path):
    write_pictures(tmp_path / "in", 10)
    out = tmp_path / "out"
    for turn, change in enumerate(({}, {"min_area": 40}, {"min_area": 40}, {})):
        if turn == 2:
            (tmp_path / "in" / "b" / "p003.png").unlink()
        result = run(tmp_path, **change)
        assert counted(out) == due(result), turn
        loaded = load(out, tmp_path / f"cache{turn}")
        assert loaded.keys() == {"train"}
        assert len(loaded["train"]) == result.manifest.counts["annotations"]
        assert "rle" in loaded["train"].column_names
        images = load(out, tmp_path / f"cache{turn}", "images")["train"]
        assert len(images) == result.manifest.counts["images"]
        assert "file_name" in images.column_names
        assert validate(result.dataset).stale == 0
        assert validate(result.dataset).ok
    assert result.manifest.version == 4
    # The first version's labels were read from where they had been moved to.
    assert result.computed == 0


def test_load_dataset_passes_over_parts_of_empty_pictures(tmp_path):
    """`datasets` cannot read a Parquet file without rows."""
    write_pictures(tmp_path / "in", 1)
    for name in ("blank.png", "plain.png"):
        Image.new("L", (20, 20), 9 + len(name)).save(tmp_path / "in" / name)
    result = run(tmp_path, shard_size=1, tasks=["instance"])
    loaded = load(tmp_path / "out", tmp_path / "cache")["train"]
    assert len(loaded) == result.manifest.counts["annotations"] > 0
    assert len(load(tmp_path / "out", tmp_path / "cache", "images")["train"]) == 3
    next((tmp_path / "in").rglob("p*0.png")).unlink()
    run(tmp_path, shard_size=1, tasks=["instance"])
    assert "file_name" in load(tmp_path / "out", tmp_path / "again")["train"].column_names


def test_an_older_version_is_still_read_and_comes_back_whole(tmp_path):
    write_pictures(tmp_path / "in", 10)
    first = run(tmp_path)
    before = sorted(row["file_name"] for row, _ in open_ledger(first.dataset).rows())
    parts = {p.name: p.read_bytes() for p in (tmp_path / "out" / "annotations").iterdir()}
    second = run(tmp_path, min_area=40)
    assert second.manifest.version == 2
    assert parts.keys() == {p.name for p in (tmp_path / "out/versions/annotations").iterdir()}
    shutil.copy(tmp_path / "out/versions/000001.json", tmp_path / "out/manifest.json")
    back = open_ledger(first.dataset)
    assert sorted(row["file_name"] for row, _ in back.rows()) == before
    report = validate(first.dataset, exports=False)
    assert report.ok
    assert report.stale == 2 * len(second.manifest.parts)
    again = run(tmp_path)
    assert (again.computed, again.manifest.version) == (0, 1)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out/annotations").iterdir()} == parts
    assert validate(first.dataset).stale == 0


def test_what_a_killed_run_left_is_warned_of_and_moved_away(tmp_path):
    write_pictures(tmp_path / "in", 3)
    result = run(tmp_path)
    for table in ("images", "annotations"):
        path = min((tmp_path / "out" / table).iterdir())
        shutil.copy(path, path.with_name("0000000a-dead.parquet"))
    assert validate(result.dataset).stale == 2
    run(tmp_path)
    assert counted(tmp_path / "out") == due(result)
    assert validate(result.dataset).stale == 0
    assert len(prune(result.dataset, STORAGE)) == 2
    assert not list((tmp_path / "out" / "versions" / "images").iterdir())


def test_it_is_the_same_on_s3(tmp_path, s3_server):
    local = small_dataset(tmp_path / "data", shard_size=3)
    storage, bucket = Storage(s3_server.config), s3_server.new_bucket()
    for entry in STORAGE.list(local.uri):
        storage.write(f"{bucket}/data/{entry.path}", Path(entry.uri).read_bytes())
    remote = open_ledger(f"{bucket}/data", storage)
    shorter = replace(remote.manifest, parts=remote.manifest.parts[:1])
    now = publish(storage, remote.uri, shorter)
    assert len(stale_parts(storage, remote.uri, now, "images")) == 2
    assert show_current(storage, remote.uri, now) == 4
    assert [e.path for e in storage.list(f"{bucket}/data/images")] == [
        f"{shorter.parts[0].name}.parquet"
    ]
    assert len(list(remote.rows())) == len(NAMES) + 1  # the older manifest finds its parts
    assert show_current(storage, remote.uri, remote.manifest) == 0
    assert len(list(storage.list(f"{bucket}/data/images"))) == 3


def test_the_card_says_what_it_is_and_nothing_of_the_machine(tmp_path):
    write_pictures(tmp_path / "in", 6)
    result = run(tmp_path)
    text = (tmp_path / "out" / "README.md").read_text("utf-8")
    _, head, body = text.split("---\n", 2)
    configs = {item["config_name"]: item for item in yaml.safe_load(head)["configs"]}
    assert configs.keys() == {"annotations", "images"}
    for table, item in configs.items():
        (files,) = item["data_files"]
        assert files["path"] == [f"{table}/{part.name}.parquet" for part in result.manifest.parts]
    assert "otsu" in body
    assert f"| segments | {result.manifest.objects} |" in body
    assert str(tmp_path) not in text


@pytest.mark.parametrize("pictures", [0, 1])
def test_pictures_of_exports_and_report_are_never_taken_for_the_dataset(tmp_path, pictures):
    (tmp_path / "in").mkdir()
    Image.fromarray(disc_picture(1)).save(tmp_path / "in" / "a.png")
    label(
        JobConfig.parse(
            {
                "input": {"uri": str(tmp_path / "in")},
                "output": str(tmp_path / "out"),
                "model": {"name": "unet-nuclei"},
                "task": ["semantic", "panoptic"],
                "report": {"max_images": pictures},
                "execution": {"inline": True},
            }
        )
    )
    assert list((tmp_path / "out" / "exports").rglob("*.png"))
    loaded = load(tmp_path / "out", tmp_path / "cache")
    assert "image" not in loaded["train"].column_names
