"""What is held back: kept whole, seen by nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_datasets import small_dataset

from pipeline.ledger.held import drop_held, held_uri, hold, read_held
from pipeline.ledger.ledger import Ledger, open_ledger
from pipeline.storage.storage import Storage

STORAGE = Storage()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return small_dataset(tmp_path / "out")


def test_a_candidate_is_kept_beside_what_stands(ledger: Ledger) -> None:
    standing = replace(ledger.manifest, parts=ledger.manifest.parts[:1])
    hold(STORAGE, ledger.uri, ledger.manifest, standing)
    assert read_held(STORAGE, ledger.uri) == replace(ledger.manifest, version=2)
    assert open_ledger(ledger.uri).manifest == ledger.manifest  # manifest.json is not touched
    seen = [path.stem for path in Path(ledger.uri, "images").iterdir()]
    assert seen == [standing.parts[0].name]  # what a glob finds is what stands
    candidate = Ledger(ledger.uri, ledger.manifest, STORAGE)
    assert len(list(candidate.rows())) == ledger.manifest.counts["images"]


def test_a_first_version_that_is_held_leaves_its_parts(ledger: Ledger) -> None:
    before = sorted(path.name for path in Path(ledger.uri, "images").iterdir())
    hold(STORAGE, ledger.uri, ledger.manifest, None)
    assert read_held(STORAGE, ledger.uri) == replace(ledger.manifest, version=1)
    assert sorted(path.name for path in Path(ledger.uri, "images").iterdir()) == before


def test_it_is_forgotten(ledger: Ledger) -> None:
    drop_held(STORAGE, ledger.uri)
    assert read_held(STORAGE, ledger.uri) is None
    hold(STORAGE, ledger.uri, ledger.manifest, None)
    drop_held(STORAGE, ledger.uri)
    assert read_held(STORAGE, ledger.uri) is None


def test_a_damaged_one_names_its_file(ledger: Ledger) -> None:
    STORAGE.write(held_uri(ledger.uri), b"{")
    with pytest.raises(ValueError, match=r"held/manifest\.json: not a maskmill manifest"):
        read_held(STORAGE, ledger.uri)
