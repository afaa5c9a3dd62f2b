"""A new version writes the label PNGs of what changed, and leaves the others where they are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from pictures import disc_picture, write_pictures

from pipeline.engine.run import label
from pipeline.exporters import export_all
from pipeline.exporters.exports import check_exports, exports_current
from pipeline.ledger.ledger import open_ledger
from pipeline.storage.storage import Storage
from pipeline.storage.swap import current_folder
from schemas.config.job import JobConfig

COUNT = 12
STORAGE = Storage()


def run(root: Path, **model: Any) -> None:
    data = {
        "input": {"uri": str(root / "in")},
        "output": str(root / "out"),
        "model": {"name": "otsu", **model},
        "task": "panoptic",
        "execution": {"inline": True, "shard_size": 4},
    }
    label(JobConfig.parse(data), report=False)


def places(root: Path) -> dict[str, int]:
    """PNG → its inode: another one where it was written anew."""
    out = root / "out" / "exports"
    return {path.relative_to(out).as_posix(): path.stat().st_ino for path in out.rglob("*.png")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", COUNT)
    run(tmp_path)
    return tmp_path


def assert_as_if_fresh(root: Path) -> None:
    ledger = open_ledger(str(root / "out"))
    problems: list[tuple[str, str]] = []
    check_exports(ledger, lambda rule, line: problems.append((rule, line)))
    assert not problems
    export_all(ledger, str(root / "fresh"))
    for path in (root / "fresh").rglob("*"):
        if path.is_file():
            there = root / "out" / "exports" / path.relative_to(root / "fresh")
            assert there.read_bytes() == path.read_bytes(), path


def test_only_changed_and_new_images_are_painted(root: Path) -> None:
    before = places(root)
    assert len(before) == 2 * COUNT
    cv2.imwrite(str(root / "in" / "a" / "p000.png"), disc_picture(99))
    cv2.imwrite(str(root / "in" / "a" / "new.png"), disc_picture(98))
    (root / "in" / "b" / "p001.png").unlink()
    run(root)
    after = places(root)
    painted = {Path(name).stem for name, place in after.items() if before.get(name) != place}
    assert painted == {"p000", "new"}
    assert not [name for name in after if name.endswith("b/p001.png")]
    assert_as_if_fresh(root)


def test_a_png_whose_name_moves_is_painted(root: Path) -> None:
    shutil.copy(root / "in" / "a" / "p000.png", root / "in" / "a" / "p000.bmp")
    run(root)
    names = {Path(name).name for name in places(root) if "p000" in name}
    assert names == {"p000.png.png", "p000.bmp.png"}
    assert_as_if_fresh(root)


def test_another_model_paints_what_it_sees_otherwise(root: Path) -> None:
    before = places(root)
    run(root, min_area=60)
    after = places(root)
    assert 0 < sum(before[name] != place for name, place in after.items()) < 2 * COUNT
    assert_as_if_fresh(root)


@pytest.mark.parametrize("lost", ["versions/000001.json", "exports/exports.json"])
def test_without_a_word_of_what_lies_there_all_is_painted(root: Path, lost: str) -> None:
    before = places(root)
    (root / "out" / lost).unlink()
    cv2.imwrite(str(root / "in" / "a" / "p000.png"), disc_picture(99))
    run(root)
    assert not set(before.values()) & set(places(root).values())
    assert_as_if_fresh(root)


def test_a_png_that_somebody_took_is_painted(root: Path) -> None:
    gone = next((root / "out" / "exports" / "semantic").rglob("p003.png"))
    gone.unlink()
    cv2.imwrite(str(root / "in" / "a" / "p000.png"), disc_picture(99))
    run(root)
    assert gone.exists()
    assert_as_if_fresh(root)


# On an object store there are no links: a version's prefix names where the others lie.


@pytest.fixture
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    uri = f"memory://{request.node.name}"
    yield f"{uri}/out"
    for entry in list(STORAGE.list(uri, hidden=True)):
        STORAGE.remove(entry.uri)


def run_to(root: Path, output: str, **model: Any) -> None:
    data = {
        "input": {"uri": str(root / "in")},
        "output": output,
        "model": {"name": "otsu", **model},
        "task": "panoptic",
        "execution": {"inline": True, "shard_size": 4},
        "history": {"keep": 2},
    }
    label(JobConfig.parse(data), report=False)


def own_pngs(output: str) -> set[str]:
    """Names of the PNGs in the current prefix itself."""
    found = STORAGE.list(current_folder(STORAGE, f"{output}/exports"))
    return {Path(entry.path).stem for entry in found if entry.path.endswith(".png")}


def assert_sound(output: str) -> None:
    ledger = open_ledger(output)
    problems: list[tuple[str, str]] = []
    check_exports(ledger, lambda rule, line: problems.append((rule, line)))
    assert not problems
    assert exports_current(ledger)


def test_a_store_gets_the_pngs_of_what_changed(tmp_path: Path, store: str) -> None:
    write_pictures(tmp_path / "in", COUNT)
    run_to(tmp_path, store)
    assert len(own_pngs(store)) == COUNT
    for night in range(3):
        cv2.imwrite(str(tmp_path / "in" / "a" / f"p00{2 * night}.png"), disc_picture(90 + night))
        run_to(tmp_path, store)
        assert own_pngs(store) == {f"p00{2 * night}"}
        assert_sound(store)
    (tmp_path / "in" / "b" / "p001.png").unlink()
    run_to(tmp_path, store)
    assert own_pngs(store) == set()
    assert_sound(store)
    run_to(tmp_path, store)
    versions = {e.path.partition("/")[0] for e in STORAGE.list(f"{store}/exports")}
    assert max(versions - {"current.json"}).startswith("000005-")


def test_validation_sees_a_png_that_is_gone_from_an_earlier_prefix(
    tmp_path: Path, store: str
) -> None:
    write_pictures(tmp_path / "in", 4)
    run_to(tmp_path, store)
    first = current_folder(STORAGE, f"{store}/exports")
    cv2.imwrite(str(tmp_path / "in" / "a" / "p000.png"), disc_picture(99))
    run_to(tmp_path, store)
    STORAGE.remove(f"{first}/semantic/a/p002.png")
    problems: list[tuple[str, str]] = []
    check_exports(open_ledger(store), lambda rule, line: problems.append((rule, line)))
    assert problems == [("export-png-missing", "a/p002.png")]
    cv2.imwrite(str(tmp_path / "in" / "a" / "p000.png"), disc_picture(98))
    run_to(tmp_path, store)
    assert own_pngs(store) == {"p000", "p002"}
    assert_sound(store)


def test_the_documents_reader_gets_what_a_local_export_is(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "in", COUNT)
    run_to(tmp_path, store)
    cv2.imwrite(str(tmp_path / "in" / "a" / "p000.png"), disc_picture(99))
    run_to(tmp_path, store)
    text = (Path(__file__).parents[3] / "docs" / "data-format.md").read_text(encoding="utf-8")
    code = text.partition("### Exports on object stores")[2].split("```python\n")[1]
    code = code.partition("```")[0].replace("s3://bucket/out", store)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    export_all(open_ledger(store), str(tmp_path / "fresh"))
    for path in (tmp_path / "fresh").rglob("*.*"):
        there = tmp_path / "exports" / path.relative_to(tmp_path / "fresh")
        assert there.read_bytes() == path.read_bytes(), path
