"""Runs with [augment] and [split]: what is in the dataset, and that it is the same each time."""

import json
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import write_pictures
from pycocotools.coco import COCO

from pipeline.engine.execute import run_inline
from pipeline.engine.plan import Works, make_plan
from pipeline.engine.progress import RunProgress
from pipeline.engine.run import label
from pipeline.evaluation.sources.dataset import LedgerSource
from pipeline.exporters import open_exporter
from pipeline.history.prune import prune
from pipeline.ledger.lease import Lease
from pipeline.ledger.ledger import open_ledger
from pipeline.ledger.reuse import EMPTY_INDEX
from pipeline.measuring.measure import measure
from pipeline.report import write_report
from pipeline.storage.storage import Storage
from pipeline.validation.validate import validate
from schemas.config.job import JobConfig

COUNT = 30
MIX = [
    {"step": "rotate", "expand": True},
    {"step": "mosaic", "p": 0.5},
    {"step": "copy_paste", "p": 0.7},
    {"step": "noise"},
]


@pytest.fixture
def folder(tmp_path):
    write_pictures(tmp_path / "in", COUNT)
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    shutil.copy(tmp_path / "in" / "a" / "p000.png", tmp_path / "in" / "twin.png")
    cv2.imwrite(
        str(tmp_path / "in" / "black.png"), cv2.imread(str(tmp_path / "in" / "twin.png")) * 0
    )
    return tmp_path


def job(folder, output="out", **sections):
    data = {
        "input": {"uri": str(folder / "in")},
        "output": str(folder / output),
        "model": {"name": "otsu"},
        "execution": {"inline": True, "shard_size": 8},
        **sections,
    }
    return JobConfig.parse(data)


def run(folder, output="out", **sections):
    return label(job(folder, output, **sections), export=False, report=False)


def published(folder, output="out"):
    """Every file that the current version consists of."""
    root = folder / output
    manifest = json.loads((root / "manifest.json").read_bytes())
    names = [
        f"{table}/{part['name']}.parquet"
        for part in manifest["parts"]
        for table in ("images", "annotations")
    ]
    names += [str(p.relative_to(root)) for p in sorted(root.glob("augmented/*/*"))]
    return {name: (root / name).read_bytes() for name in names}


def rows(folder, output="out"):
    return list(open_ledger(str(folder / output)).rows())


AUGMENT = {"copies": 2, "steps": MIX}
SPLIT = {"val": 0.3, "test": 0.2}


def test_every_looked_at_input_has_its_copies_and_counts_say_so(folder):
    result = run(folder, augment={"copies": 3})
    counts = result.manifest.counts
    inputs = [image for image, _ in rows(folder) if image["parent_image_id"] is None]
    assert len(inputs) == COUNT + 3 == result.computed
    assert Counter(image["status"] for image in inputs) == {"ok": 31, "empty": 1, "failed": 1}
    assert counts["copies"] == 3 * 32
    assert counts["images"] == COUNT + 3 + counts["copies"]
    assert counts["ok"] + counts["empty"] + counts["failed"] == counts["images"]
    children = Counter(i["parent_image_id"] for i, _ in rows(folder))
    failed = [image["image_id"] for image in inputs if image["status"] == "failed"]
    assert {key: n for key, n in children.items() if key is not None} == {
        image["image_id"]: 3 for image in inputs if image["image_id"] not in failed
    }
    assert validate(result.dataset).violations == ()


def test_a_split_never_leaks_and_only_its_pictures_are_copied(folder):
    run(folder, augment=AUGMENT, split=SPLIT)
    images = [image for image, _ in rows(folder)]
    by_id = {image["image_id"]: image for image in images}
    splits = Counter(i["split"] for i in images if i["parent_image_id"] is None)
    assert set(splits) == {"train", "val", "test", None}
    assert splits[None] == 1  # the broken one
    for image in images:
        if image["parent_image_id"] is not None:
            assert image["split"] == by_id[image["parent_image_id"]]["split"] == "train"
            for step in json.loads(image["augmentation"])["steps"]:
                lenders = [step.get("image_id"), *step.get("image_ids", [])]
                for lender in filter(None, lenders):
                    assert by_id[lender]["split"] == "train"
    twins = [i["split"] for i in images if i["file_name"] in ("twin.png", "a/p000.png")]
    assert twins[0] == twins[1]
    assert sum(i["parent_image_id"] is not None for i in images) == 2 * splits["train"]


def test_the_same_bytes_whoever_does_what_when(folder):
    run(folder, augment=AUGMENT, split=SPLIT)
    config = job(folder, "other", augment=AUGMENT, split=SPLIT)
    with Lease(Storage(), config.output) as lease:
        plan = make_plan(config, RunProgress(), retry_failed=False, lease=lease)
    shards = list(reversed(plan.shards))
    for half in (shards[::2], shards[1::2]):  # two workers, backwards, then the driver
        run_inline(plan.spec, EMPTY_INDEX, Works(plan.listing, half), lambda receipt: None)
    run(folder, "other", augment=AUGMENT, split=SPLIT)
    assert published(folder) == published(folder, "other")


def test_another_augmentation_computes_no_label_again(folder):
    first = run(folder)
    assert "copies" not in first.manifest.counts
    second = run(folder, augment=AUGMENT)
    assert (second.computed, second.reused) == (0, COUNT + 3)
    assert second.new_version
    run(folder, "fresh", augment=AUGMENT)
    assert published(folder) == published(folder, "fresh")
    assert validate(second.dataset).violations == ()


def test_a_killed_run_goes_on_to_the_same_bytes(folder):
    run(folder, augment=AUGMENT)
    before = published(folder)
    root = folder / "out"
    for place, file in enumerate(sorted((root / "receipts").iterdir())):
        if place % 2:
            file.unlink()
    for place, file in enumerate(sorted(root.glob("augmented/*/*.png"))):
        if place % 5 == 0:
            file.unlink()
    again = run(folder, augment=AUGMENT)
    assert not again.new_version
    assert published(folder) == before


def test_pruning_keeps_the_copies_of_kept_versions_only(folder):
    run(folder, augment={"copies": 1, "seed": 1})
    old = set(published(folder))
    run(folder, augment={"copies": 1, "seed": 2})
    assert prune(str(folder / "out"), Storage()) == []
    (folder / "out" / "versions" / "000001.json").unlink()
    current = {p for p in published(folder) if not p.startswith("augmented/")}
    named = {i["file_name"] for i, _ in rows(folder) if i["parent_image_id"]}
    assert len(prune(str(folder / "out"), Storage())) > len(named) / 2
    left = {p for p in published(folder) if p.startswith("augmented/")}
    assert left == named
    assert current <= set(published(folder))
    assert not old <= set(published(folder))
    assert validate(str(folder / "out")).violations == ()


def test_pycocotools_reads_copies_beside_their_parents(folder):
    result = run(folder, augment=AUGMENT, split=SPLIT)
    ledger = open_ledger(result.dataset)
    out = str(folder / "coco")
    open_exporter("coco-instances", tasks=ledger.manifest.tasks).export(
        ledger.view(ledger.manifest.tasks[0]), out
    )
    coco = COCO(str(folder / "coco" / "instances.json"))
    looked_at = {i["image_id"]: (i, found) for i, found in ledger.rows() if not i["error_code"]}
    assert set(coco.imgs) == set(looked_at)
    for image_id, (image, found) in looked_at.items():
        assert coco.imgs[image_id]["split"] == image["split"]
        assert coco.imgs[image_id].get("parent_image_id") == image["parent_image_id"]
        if image["parent_image_id"] is not None:
            shown = cv2.imread(str(folder / "out" / image["file_name"]))
            assert shown.shape[:2] == (coco.imgs[image_id]["height"], coco.imgs[image_id]["width"])
        things = [row for row in found if row["isthing"]]
        annotations = coco.loadAnns(coco.getAnnIds([image_id]))
        assert [coco.annToMask(a).sum() for a in annotations] == [r["area"] for r in things]


def test_every_export_of_copies_is_what_its_readers_expect(folder):
    config = job(folder, augment=AUGMENT, task=["semantic", "instance", "panoptic"])
    result = label(config, report=False)
    report = validate(result.dataset)
    assert report.violations == ()
    assert set(report.exports) == {"coco-instances", "coco-panoptic", "semantic-png"}
    pngs = folder / "out" / "exports" / "coco" / "panoptic" / "augmented"
    assert len(list(pngs.rglob("*.png"))) == result.manifest.counts["copies"]


def test_evaluating_and_measuring_leave_copies_out_and_the_report_shows_them(folder):
    result = run(folder, augment={"copies": 1})
    ledger = open_ledger(result.dataset)
    names = [entry.name for entry in LedgerSource(ledger).entries()]
    assert len(names) == COUNT + 3
    summary = measure(dataset=result.dataset, output=str(folder / "m.parquet"), save=False)
    originals = [found for image, found in ledger.rows() if image["parent_image_id"] is None]
    assert summary["counts"]["objects"] == sum(map(len, originals))
    write_report(ledger, str(folder / "report"))
    ids = [i["image_id"] for i, _ in ledger.rows() if not i["error_code"]]
    assert {int(p.stem) for p in Path(folder / "report" / "full").glob("*.jpg")} == set(ids)


def test_what_breaks_copies_is_found(folder):
    result = run(folder, augment={"copies": 1})
    copy = next(i for i, _ in rows(folder) if i["parent_image_id"] is not None)
    (folder / "out" / copy["file_name"]).write_bytes(b"shorter")
    (found,) = validate(result.dataset).violations
    assert (found.rule, found.examples) == ("copy-file", (f"image {copy['image_id']}",))


def test_bad_sections_fail_before_the_first_picture(folder):
    for sections, message in (
        ({"augment": {"copies": 1, "splits": ["val"]}}, r"augment.splits: without \[split\]"),
        ({"split": {"val": 0.1, "group": r"patient(\d)"}}, r"split.group: .* in no file name"),
        (
            {"augment": {"copies": 1, "steps": [{"step": "copy_paste", "categories": ["x"]}]}},
            r"copy_paste: no category is called 'x'",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            run(folder, **sections)


def test_pixels_that_a_block_cannot_hold_are_read_again(folder, monkeypatch):
    run(folder, augment=AUGMENT)
    monkeypatch.setattr("pipeline.augment.queue.HELD_BYTES", 20_000)
    run(folder, "small", augment=AUGMENT)
    assert published(folder) == published(folder, "small")


def test_copies_come_from_the_picture_before_preprocessing(folder):
    same = {"copies": 1, "steps": [{"step": "flip", "horizontal": 0}]}
    resize = {"step": "resize", "mode": "shortest", "size": 32}
    run(folder, augment=same, preprocess={"steps": [{"step": "gamma", "gamma": 3}, resize]})
    by_id = {image["image_id"]: image for image, _ in rows(folder)}
    pairs = [(i, by_id[i["parent_image_id"]]) for i in by_id.values() if i["parent_image_id"]]
    assert len(pairs) == COUNT + 2
    for copy, parent in pairs:
        shown = cv2.imread(str(folder / "out" / copy["file_name"]))
        assert np.array_equal(shown, cv2.imread(str(folder / "in" / parent["file_name"])))


def test_large_pictures_wait_for_one_another(folder, monkeypatch):
    run(folder, augment={"copies": 1})
    monkeypatch.setattr("pipeline.augment.queue.WAITING_BYTES", 0)
    run(folder, "slow", augment={"copies": 1})
    assert published(folder) == published(folder, "slow")


@pytest.mark.slow
def test_copies_on_s3_are_those_of_a_local_run(folder, s3_server):
    run(folder, augment={"copies": 1})
    bucket = s3_server.new_bucket()
    storage = Storage(s3_server.config)
    config = job(folder, augment={"copies": 1}).model_copy(
        update={"output": f"{bucket}/out", "storage": s3_server.config}
    )
    first = label(config, export=False, report=False)
    for name, data in published(folder).items():
        assert storage.read(f"{bucket}/out/{name}") == data
    assert validate(first.dataset, storage).violations == ()
    assert not label(config, export=False, report=False).new_version
    assert prune(first.dataset, storage) == []
