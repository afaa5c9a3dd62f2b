"""A dataset's folder of exports: what is written, known as current, and cleared away."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_datasets import NAMES, PICTURE_NAMES, small_dataset

from pipeline.exporters import (
    EXPORTERS,
    Artifact,
    check_exports,
    export,
    export_all,
    exports_current,
    formats_of,
    open_exporter,
)
from pipeline.exporters.exports import ExportStamp
from pipeline.exporters.png_folder import PngNames
from pipeline.exporters.table import make_exporter
from pipeline.ledger.ledger import Ledger
from pipeline.storage.storage import Storage
from schemas.config.export import ExportConfig

TASKS = ("semantic", "instance", "panoptic")


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def problems(ledger: Ledger) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []
    check_exports(ledger, lambda rule, text: said.append((rule, text)))
    return said


@pytest.mark.parametrize(
    ("task", "formats"),
    [
        (("semantic",), {"semantic-png"}),
        (("instance",), {"coco-instances"}),
        (("panoptic",), {"coco-instances", "coco-panoptic", "semantic-png"}),
        (("semantic", "instance"), {"coco-instances", "semantic-png"}),
        (TASKS, {"coco-instances", "coco-panoptic", "semantic-png"}),
    ],
)
def test_tasks_yield_their_formats(task, formats, tmp_path):
    ledger = small_dataset(tmp_path / "data", task)
    assert not exports_current(ledger)
    artifacts = export_all(ledger)
    assert {item.kind for item in artifacts} == set(formats_of(task)) == formats
    root = tmp_path / "data" / "exports"
    for item in artifacts:
        assert (root / item.path).exists()
    assert exports_current(ledger)
    assert check_exports(ledger, lambda *problem: pytest.fail(str(problem))) == tuple(
        name for name in EXPORTERS if name in formats_of(task)
    )


def test_the_layout_is_the_contract(tmp_path):
    ledger = small_dataset(tmp_path / "data", pictures=True)
    export_all(ledger, formats=tuple(EXPORTERS))
    root = tmp_path / "data" / "exports"
    names = PngNames(PICTURE_NAMES)
    pngs = {names[name] for name in PICTURE_NAMES}
    assert {path for path in tree(root) if path.startswith(("coco/", "semantic"))} == {
        "coco/instances.json",
        "coco/instances_polygons.json",
        "coco/results.json",
        "coco/panoptic.json",
        *(f"coco/panoptic/{png}" for png in pngs),
        "semantic/categories.json",
        *(f"semantic/{png}" for png in pngs),
        "semantic-stuffthing/categories.json",
        *(f"semantic-stuffthing/{png}" for png in pngs),
    }
    made = {name: make_exporter(name) for name in EXPORTERS}
    assert all((root / item.folder / item.file).is_file() for item in made.values())
    folders = {"coco", "semantic", "semantic-stuffthing"}
    assert {item.folder for name, item in made.items() if item.folder not in folders} == {
        name for name, item in made.items() if item.folder not in folders
    }
    assert {path.partition("/")[0] for path in tree(root)} == {
        "exports.json", *(item.folder for item in made.values())
    }  # fmt: skip


def test_same_dataset_same_bytes_wherever_it_lies(tmp_path):
    out = []
    for name, size in (("a", 3), ("b", 3)):
        ledger = small_dataset(tmp_path / name, shard_size=size, pictures=True)
        export_all(ledger, str(tmp_path / f"{name}-out"), formats=tuple(EXPORTERS))
        out.append(tree(tmp_path / f"{name}-out"))
        out[-1].pop("exports.json")  # names the manifest, which names the input
    assert out[0] == out[1]


def test_another_version_is_not_current_until_exported_again(tmp_path):
    ledger = small_dataset(tmp_path / "data")
    export_all(ledger)
    newer = Ledger(ledger.uri, replace(ledger.manifest, version=2), ledger.storage)
    assert exports_current(ledger)
    assert not exports_current(newer)
    assert {rule for rule, _ in problems(newer)} == {"export-current"}
    export_all(newer)
    assert exports_current(newer)
    assert not problems(newer)


def test_other_formats_or_a_missing_file_are_not_current(tmp_path):
    ledger = small_dataset(tmp_path / "data")
    export_all(ledger)
    assert not exports_current(ledger, formats=("coco-instances",))
    assert not exports_current(ledger, formats=(*formats_of(("panoptic",)), "coco-results"))
    (tmp_path / "data" / "exports" / "coco" / "panoptic.json").unlink()
    assert not exports_current(ledger)
    assert [rule for rule, _ in problems(ledger)] == ["export-json"]


def test_what_is_no_longer_exported_goes_and_strangers_stay(tmp_path):
    ledger = small_dataset(tmp_path / "data")
    root = tmp_path / "data" / "exports"
    export_all(ledger)
    (root / "semantic" / "notes.txt").write_text("mine")
    (root / "mine.json").write_text("{}")
    export_all(ledger, formats=("coco-instances",))
    assert set(tree(root)) == {
        "exports.json",
        "coco/instances.json",
        "semantic/notes.txt",
        "mine.json",
    }


def test_pngs_of_images_that_are_gone_go(tmp_path):
    ledger = small_dataset(tmp_path / "data")
    export_all(ledger)
    panoptic = tmp_path / "data" / "exports" / "coco" / "panoptic"
    (panoptic / "old").mkdir()
    (panoptic / "old" / "x.png").write_bytes(b"x")
    assert problems(ledger) == [("export-png-stray", "old/x.png")]
    export_all(ledger)
    assert not problems(ledger)


def test_a_broken_off_export_leaves_the_old_one_as_it_was(tmp_path, monkeypatch):
    ledger = small_dataset(tmp_path / "data")
    export_all(ledger)
    newer = replace(ledger.manifest, version=2)
    ledger = Ledger(ledger.uri, newer, Storage())
    before = tree(tmp_path / "data" / "exports")
    cls = type(open_exporter("coco-panoptic", tasks=("panoptic",)))

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cls, "renew", die)
        with pytest.raises(KeyboardInterrupt):
            export_all(ledger)
    assert tree(tmp_path / "data" / "exports") == before
    assert not exports_current(ledger)
    assert {rule for rule, _ in problems(ledger)} == {"export-current"}
    export_all(ledger)
    assert exports_current(ledger)
    assert problems(ledger) == []


def test_a_damaged_stamp_is_no_stamp(tmp_path):
    ledger = small_dataset(tmp_path / "data")
    export_all(ledger)
    stamp = tmp_path / "data" / "exports" / "exports.json"
    for text in ("", "[]", '{"formats": {"x": 1}}', '{"formats": {"x": {"dataset": "1"}}}'):
        stamp.write_text(text)
        assert ExportStamp.read(Storage(), str(stamp.parent)) is None
        assert not exports_current(ledger)
    export_all(ledger)
    assert json.loads(stamp.read_text())["formats"].keys() == set(formats_of(("panoptic",)))


def test_unknown_formats_and_unfit_tasks_are_named(tmp_path):
    ledger = small_dataset(tmp_path / "data", "instance")
    with pytest.raises(ValueError, match="unknown format 'coco'; did you mean one of 'coco-"):
        export_all(ledger, formats=("coco",))
    with pytest.raises(ValueError, match="coco-panoptic needs a dataset of task panoptic"):
        exports_current(ledger, formats=("coco-panoptic",))
    with pytest.raises(ValueError, match="semantic or panoptic, this one's is instance"):
        export(ledger, "semantic-png", str(tmp_path / "out"))
    assert not (tmp_path / "data" / "exports").exists()
    assert not (tmp_path / "out").exists()


def test_one_format_goes_straight_into_the_callers_folder(tmp_path):
    ledger = small_dataset(tmp_path / "data")
    out = tmp_path / "out"
    for _ in range(2):
        assert export(ledger, "coco-panoptic", str(out)) == [
            Artifact("panoptic.json", "coco-panoptic", len(NAMES)),
            Artifact("panoptic/", "coco-panoptic", len(NAMES)),
        ]
        export(ledger, "coco-instances", str(out))
    assert {path.name for path in out.iterdir()} == {
        "panoptic.json",
        "panoptic",
        "instances.json",
        "exports.json",
    }


@pytest.mark.parametrize("name", ["semantic-png", "coco-panoptic"])
def test_a_folder_with_pictures_of_others_is_not_touched(name, tmp_path):
    ledger = small_dataset(tmp_path / "data")
    folder = tmp_path / "photos" / ("panoptic" if name == "coco-panoptic" else "")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plain.png").write_bytes(b"a photo")
    before = tree(tmp_path / "photos")
    with pytest.raises(ValueError, match="is not empty and holds no"):
        export(ledger, name, str(tmp_path / "photos"))
    assert tree(tmp_path / "photos") == before


def test_semantic_pngs_do_not_share_a_folder_with_another_format(tmp_path):
    ledger = small_dataset(tmp_path / "data")
    out = str(tmp_path / "out")
    export(ledger, "semantic-png", out)
    export(ledger, "semantic-png", out)
    export(ledger, "coco-panoptic", out)
    before = tree(tmp_path / "out")
    with pytest.raises(ValueError, match="is not empty and holds no"):
        export(ledger, "semantic-png", out)
    with pytest.raises(ValueError, match="is not empty and holds no"):
        export(ledger, "semantic-png-stuffthing", out)
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize(
    "path",
    ["../../victim/precious.txt", "../../victim/pics/", "/{victim}/precious.txt", "notes.txt"],
)
def test_a_stamp_that_somebody_wrote_removes_nothing(path, tmp_path):
    ledger = small_dataset(tmp_path / "data")
    export_all(ledger)
    victim = tmp_path / "victim"
    (victim / "pics").mkdir(parents=True)
    kept = [victim / "precious.txt", victim / "pics" / "a.png", tmp_path / "data/exports/notes.txt"]
    for file in kept:
        file.write_text("mine")
    stamp = tmp_path / "data/exports/exports.json"
    data = json.loads(stamp.read_text())
    artifact = {"path": path.format(victim=victim), "kind": "coco-results", "count": 1}
    data["formats"]["coco-results"] = {"dataset": "x", "artifacts": [artifact]}
    stamp.write_text(json.dumps(data))
    assert not exports_current(ledger)
    export_all(ledger)
    assert [file.read_text() for file in kept] == ["mine"] * 3
    assert exports_current(ledger)
    assert problems(ledger) == []


def test_what_an_option_changes_is_not_current_and_checked_with_it(tmp_path):
    ledger = small_dataset(tmp_path / "data", "instance", pictures=True)
    loose = ExportConfig(tolerance=2.0)
    formats = ("coco-instances", "yolo-seg")
    export_all(ledger, formats=formats, config=loose)
    assert exports_current(ledger, formats=formats, config=loose)
    assert not exports_current(ledger, formats=formats)
    assert exports_current(ledger, formats=formats, config=ExportConfig(tolerance=2, shapes="mask"))
    assert not problems(ledger)
    label = next(Path(ledger.uri, "exports", "yolo-seg", "labels").rglob("*.txt"))
    label.write_bytes(b"0 0 0 1 1 1 0\n")
    assert [rule for rule, _ in problems(ledger)] == ["export-file-differs"]


def test_a_format_that_is_dropped_takes_its_pictures_along(tmp_path):
    ledger = small_dataset(tmp_path / "data", "instance", pictures=True)
    root = tmp_path / "data" / "exports"
    export_all(ledger, formats=("coco-instances", "yolo-seg"))
    export_all(ledger, formats=("coco-instances",))
    assert tree(root).keys() == {"exports.json", "coco/instances.json"}


def test_a_picture_that_is_gone_or_another_one_is_named(tmp_path):
    ledger = small_dataset(tmp_path / "data", "instance", pictures=True)
    source = tmp_path / "data-input"
    (source / "sub" / "plain.png").write_bytes((source / "plain.jpg").read_bytes()[:300])
    with pytest.raises(ValueError, match=r"sub/plain\.png cannot be decoded again"):
        export(ledger, "yolo-seg", str(tmp_path / "a"))
    (source / "sub" / "plain.png").unlink()
    with pytest.raises(ValueError, match=r"sub/plain\.png is no longer in the input"):
        export(ledger, "yolo-seg", str(tmp_path / "b"))
