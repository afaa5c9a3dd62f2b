"""Pruning removes what no version names, and never what one does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_datasets import small_dataset

from pipeline.history.prune import prune
from pipeline.ledger.current import show_current
from pipeline.ledger.ledger import Ledger, open_ledger, publish
from pipeline.storage.storage import Storage

STORAGE = Storage()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return small_dataset(tmp_path / "out", shard_size=3)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_fresh_dataset_has_nothing_to_prune(ledger: Ledger) -> None:
    root = Path(ledger.uri)
    before = files(root)
    assert len(prune(ledger.uri, STORAGE)) == 0
    assert files(root) == before


def test_what_killed_runs_left_goes(ledger: Ledger) -> None:
    root = Path(ledger.uri)
    before = files(root)
    left = (
        "images/0000000a-dead.parquet",
        "annotations/0000000a-dead.parquet",
        "images/.0000000a-dead.parquet.123-abcd.tmp",
        "receipts/0000000a-token.json",
        "receipts/.half.json.123-abcd.tmp",
    )
    for name in left:
        (root / name).write_text("left")
    (root / "exports").mkdir()
    (root / "exports" / "mine.txt").write_text("not looked at")
    assert len(prune(ledger.uri, STORAGE)) == len(left)
    assert files(root) == before | {"exports/mine.txt"}
    assert len(list(open_ledger(ledger.uri).rows())) == ledger.manifest.counts["images"]


def test_a_whole_receipt_that_was_never_renamed_goes(ledger: Ledger) -> None:
    """A worker was killed between writing and renaming; its part is a current one."""
    root = Path(ledger.uri)
    before = files(root)
    receipt = next((root / "receipts").iterdir())
    left = root / f"receipts/.{receipt.name}.123-5bce98f750879d41.tmp"
    left.write_bytes(receipt.read_bytes())
    assert prune(ledger.uri, STORAGE) == [f"receipts/{left.name}"]
    assert files(root) == before


def test_parts_of_old_versions_stay_as_long_as_their_version(ledger: Ledger) -> None:
    root = Path(ledger.uri)
    shorter = replace(ledger.manifest, parts=ledger.manifest.parts[:1])
    publish(STORAGE, ledger.uri, shorter)
    assert len(prune(ledger.uri, STORAGE)) == 0
    (root / "versions" / "000001.json").unlink()
    gone = len(ledger.manifest.parts) - 1
    assert len(prune(ledger.uri, STORAGE)) == 3 * gone  # images, annotations, receipt
    assert {path.stem for path in (root / "images").iterdir()} == {shorter.parts[0].name}
    assert len(list(open_ledger(ledger.uri).images())) == 1


def test_the_current_version_stays_without_its_numbered_copy(ledger: Ledger) -> None:
    root = Path(ledger.uri)
    (root / "versions" / "000001.json").unlink()
    assert len(prune(ledger.uri, STORAGE)) == 0
    assert len(list(open_ledger(ledger.uri).rows())) == ledger.manifest.counts["images"]


def test_a_version_that_cannot_be_read_stops_it_before_anything_goes(ledger: Ledger) -> None:
    root = Path(ledger.uri)
    (root / "images" / "0000000a-dead.parquet").write_text("left")
    (root / "versions" / "000002.json").write_text("{")
    before = files(root)
    with pytest.raises(ValueError, match=r"000002\.json: not a maskmill manifest"):
        prune(ledger.uri, STORAGE)
    assert files(root) == before


def test_where_no_dataset_is_nothing_is_removed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no published dataset"):
        prune(str(tmp_path / "nothing"), STORAGE)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "holiday.parquet").write_text("mine")
    with pytest.raises(ValueError, match="no dataset of ours"):
        prune(str(tmp_path), STORAGE)
    assert files(tmp_path) == {"images/holiday.parquet"}


@pytest.mark.parametrize("table", ["images", "annotations", "receipts", "index", "removed"])
def test_nothing_goes_through_a_link_to_another_place(
    ledger: Ledger, tmp_path: Path, table: str
) -> None:
    """Whoever gave the dataset made a folder of it a link to one of ours."""
    elsewhere, root = tmp_path / "elsewhere", Path(ledger.uri)
    (elsewhere / "sub").mkdir(parents=True)
    for name in ("a.parquet", "a.json", "a.png", "sub/a.parquet", ".a.json.99999999-ab.tmp"):
        (elsewhere / name).write_text("mine")
    if (root / table).exists():
        for path in (root / table).iterdir():
            path.rename(elsewhere / path.name)
        (root / table).rmdir()
    (root / table).symlink_to(elsewhere)
    before = files(elsewhere)
    prune(ledger.uri, STORAGE)
    show_current(STORAGE, ledger.uri, ledger.manifest)
    prune(ledger.uri, STORAGE)
    assert files(elsewhere) == before


def test_what_no_run_makes_stays(ledger: Ledger) -> None:
    root = Path(ledger.uri)
    for name in ("images/notes.txt", "images/mine/a.parquet", "receipts/a.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("mine")
    before = files(root)
    assert prune(ledger.uri, STORAGE) == []
    assert files(root) == before
