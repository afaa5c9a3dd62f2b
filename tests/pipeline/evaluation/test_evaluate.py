import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pipeline.evaluation.evaluate import evaluate
from pipeline.exporters import export
from pipeline.ledger.ledger import open_ledger, write_dataset
from pipeline.masks import codec
from schemas.categories import Categories, Category
from schemas.records import ErrorCode, Failure, ImageRecord, Segment, Segmentation

NUCLEUS = Category(1, "nucleus", True, "#ff0000")
BACKGROUND = Category(2, "background", False, "#000000", is_background=True)
TABLE = Categories((NUCLEUS, BACKGROUND))


def field(shift=0):
    """A 30×40 picture with three nuclei; 1…3, 0 = background."""
    label_map = np.zeros((30, 40), np.uint16)
    for value, (x, y) in enumerate([(2, 2), (20, 4), (8, 18)], start=1):
        label_map[y : y + 8, x + shift : x + shift + 8] = value
    return label_map


def segment(mask, category_id=1, score=None):
    counts, (height, width) = codec.encode(mask), mask.shape
    box = codec.bbox_xywh(counts, height, width)
    return Segment(category_id, counts, int(np.count_nonzero(mask)), box, score)


def labelled(label_map, task="panoptic"):
    found = [segment(label_map == v, score=0.9) for v in np.unique(label_map[label_map > 0])]
    if task == "semantic":
        found = [segment(label_map > 0)] if found else []
    if task != "instance":
        found.append(segment(label_map == 0, 2))
    return Segmentation(*label_map.shape, tuple(found))


def dataset(folder, images, *, task="panoptic", categories=TABLE):
    rows = [
        (ImageRecord(name, f"mem/{name}", image_id=number), found)
        for number, (name, found) in enumerate(images.items(), start=10)
    ]
    write_dataset(str(folder), rows, categories=categories, task=task, shard_size=2)
    return str(folder)


def label_folder(folder, maps):
    for name, label_map in maps.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), label_map)
    return str(folder)


MAPS = {"a/1.png": field(), "a/2.png": field(3), "b/3.png": field(6), "b/4.png": field() * 0}


@pytest.fixture
def truth(tmp_path):
    return label_folder(tmp_path / "truth", MAPS)


def perfect(task):
    return {name: labelled(label_map, task) for name, label_map in MAPS.items()}


@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_perfect_objects_against_label_maps(tmp_path, truth, task):
    ours = dataset(tmp_path / "ours", perfect(task), task=task)
    result = evaluate(dataset=ours, ground_truth=truth)
    assert result["settings"]["ground_truth_kind"] == "labels"
    assert result["settings"]["metrics"] == ["matching", "ap"]
    matching = result["overall"]["matching"]
    assert matching["accuracy_50_95"] == matching["by_image"]["accuracy_50"] == 1
    assert matching["by_image"]["images"] == 3
    assert matching["thresholds"][0]["tp"] == 9
    for limit in ("max_dets_100", "max_dets_1000"):
        assert result["overall"]["ap"][limit]["AP"] == pytest.approx(1)
    assert result["counts"]["images"] == 4
    assert result["counts"]["names"] == {}
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_perfect_semantic_predictions_against_label_maps(tmp_path, truth):
    ours = dataset(tmp_path / "ours", perfect("semantic"), task="semantic")
    result = evaluate(dataset=ours, ground_truth=truth)
    assert result["settings"]["metrics"] == ["miou"]
    assert result["overall"]["miou"]["mean_iou"] == 1
    assert [row["name"] for row in result["per_category"]] == ["nucleus", "background"]
    assert result["overall"]["miou"]["pixels"] == 4 * 30 * 40


@pytest.mark.parametrize("task", ["instance", "panoptic", "semantic"])
def test_a_dataset_against_itself(tmp_path, task):
    ours = dataset(tmp_path / "ours", perfect(task), task=task)
    overall = evaluate(dataset=ours, ground_truth=ours)["overall"]
    names = {"instance": {"matching", "ap"}, "semantic": {"miou"}}
    assert set(overall) == names.get(task, {"matching", "ap", "pq", "miou"})
    if "pq" in overall:
        assert overall["pq"]["all"] == {"pq": 1, "sq": 1, "rq": 1, "categories": 2}
    if "miou" in overall:
        assert overall["miou"]["mean_iou"] == overall["miou"]["pixel_accuracy"] == 1
    if "matching" in overall:
        assert overall["matching"]["accuracy_50_95"] == 1


def test_semantic_maps_in_both_conventions(tmp_path):
    ours = dataset(tmp_path / "ours", perfect("semantic"), task="semantic")
    maps = {name: np.where(m > 0, 1, 2).astype(np.uint8) for name, m in MAPS.items()}
    maps["a/1.png"][:, :10] = 0
    plain = evaluate(dataset=ours, ground_truth=label_folder(tmp_path / "ids", maps))
    assert plain["settings"]["ground_truth_kind"] == "semantic"
    less_one = {name: np.where(m == 0, 255, m - 1) for name, m in maps.items()}
    shifted = evaluate(
        dataset=ours, ground_truth=label_folder(tmp_path / "less", less_one), pixel_offset=1
    )
    for result in (plain, shifted):
        assert result["overall"]["miou"]["mean_iou"] == 1
        assert result["overall"]["miou"]["pixels"] == 4 * 30 * 40 - 30 * 10


@pytest.mark.parametrize(
    ("task", "format_", "file", "metrics"),
    [
        ("instance", "coco-instances", "instances.json", ["matching", "ap", "pq", "miou"]),
        ("panoptic", "coco-panoptic", "panoptic.json", ["matching", "ap", "pq", "miou"]),
        ("semantic", "semantic-png", "", ["miou", "pq"]),
    ],
)
def test_our_parquet_is_ground_truth_as_good_as_its_exports(tmp_path, task, format_, file, metrics):
    table = Categories((NUCLEUS, BACKGROUND, Category(300, "mitosis", True, "#00ff00")))
    sides = []
    for name, move in (("truth", 0), ("ours", 1)):
        images = {}
        for number, (path, label_map) in enumerate(MAPS.items()):
            moved = np.roll(label_map, move * number, 1)
            segments = list(labelled(moved, task).segments)
            if len(segments) > 1 or task == "instance":
                segments[:1] = [replace(item, category_id=300) for item in segments[:1]]
            images[path] = Segmentation(30, 40, tuple(segments))
        sides.append(dataset(tmp_path / name, images, task=task, categories=table))
    truth, ours = sides
    export(open_ledger(truth), format_, str(tmp_path / "export"))
    whole, exported = (
        evaluate(dataset=ours, ground_truth=side, metrics=metrics)
        for side in (truth, str(tmp_path / "export" / file))
    )
    assert set(whole["overall"]) == set(metrics)
    assert whole["overall"] == exported["overall"]
    assert whole["worst_images"] == exported["worst_images"]
    for result in (whole, exported):  # objects' files have no category for what they leave over
        rows = [{**row, "category_id": 0} for row in result["per_category"]]
        result["rows"] = sorted(rows, key=lambda row: row["name"])
    assert whole["rows"] == exported["rows"]
    figures = whole["overall"]
    assert 0 < figures["miou"]["mean_iou"] < 1
    assert figures["pq"]["all"]["categories"] == {"instance": 2, "panoptic": 3, "semantic": 2}[task]


def test_deep_maps_of_category_ids_on_either_side(tmp_path):
    table = Categories((replace(NUCLEUS, id=300), BACKGROUND))
    deep = {name: np.where(m > 0, 300, 2).astype(np.uint16) for name, m in MAPS.items()}
    images = {
        name: Segmentation(30, 40, (segment(m == 300, 300), segment(m == 2, 2)))
        for name, m in deep.items()
        if (m == 300).any()
    }
    ours = dataset(tmp_path / "ours", images, task="semantic", categories=table)
    maps = label_folder(tmp_path / "maps", deep)
    sides = {"dataset": ours, "ground_truth": maps}, {"predictions": maps, "ground_truth": ours}
    for side, more in zip(sides, ({}, {"predictions_kind": "semantic"}), strict=True):
        result = evaluate(**side, **more)
        settings = result["settings"]
        assert {settings["ground_truth_kind"], settings["predictions_kind"]} == {
            "dataset",
            "semantic",
        }
        assert {row["name"] for row in result["per_category"]} == {"nucleus", "background"}
        assert result["overall"]["miou"]["frequency_weighted_iou"] == pytest.approx(
            1 if "predictions" in side else 0.75, abs=0.02
        )


def test_missing_and_failed_predictions_are_misses_and_strangers_are_left_out(tmp_path, truth):
    images = perfect("panoptic")
    del images["a/1.png"]
    images["a/2.png"] = Failure(ErrorCode.TRUNCATED, "cut off")
    images["zoo.png"] = labelled(field())
    result = evaluate(dataset=dataset(tmp_path / "ours", images), ground_truth=truth)
    counts = result["counts"]
    assert (counts["images"], counts["without_prediction"]) == (4, 1)
    assert counts["names"] == {
        "without_prediction": ["a/1.png"],
        "failed_predictions": ["a/2.png"],
        "without_ground_truth": ["zoo.png"],
    }
    row = result["overall"]["matching"]["thresholds"][0]
    assert (row["tp"], row["fp"], row["fn"]) == (3, 0, 6)
    assert result["overall"]["ap"]["max_dets_100"]["AR_max"] == pytest.approx(1 / 3)
    assert {row["file_name"] for row in result["worst_images"][:2]} == {"a/1.png", "a/2.png"}


def test_failed_images_are_no_ground_truth(tmp_path):
    images = perfect("panoptic")
    ours = dataset(tmp_path / "ours", images)
    images["a/1.png"] = Failure(ErrorCode.TRUNCATED, "cut off")
    result = evaluate(dataset=ours, ground_truth=dataset(tmp_path / "truth", images))
    assert result["counts"]["names"] == {
        "without_ground_truth": ["a/1.png"],
        "failed_ground_truth": ["a/1.png"],
    }
    assert result["overall"]["pq"]["all"]["pq"] == 1


def test_predictions_of_another_size_are_misses(tmp_path, truth, caplog):
    images = perfect("panoptic")
    images["a/1.png"] = labelled(np.ascontiguousarray(field().T))
    ours = dataset(tmp_path / "ours", images)
    result = evaluate(dataset=ours, ground_truth=truth)
    assert result["counts"]["names"] == {"size_differs": ["a/1.png"]}
    assert "a/1.png: ground truth is 40x30, prediction 30x40" in caplog.text
    turned = {name: labelled(np.ascontiguousarray(m.T)) for name, m in MAPS.items()}
    with pytest.raises(ValueError, match=r"every prediction differs in size.*same pictures"):
        evaluate(dataset=dataset(tmp_path / "turned", turned), ground_truth=truth)


def test_figures_by_folder(tmp_path, truth):
    images = perfect("panoptic")
    images["b/3.png"] = labelled(field(12))
    result = evaluate(
        dataset=dataset(tmp_path / "ours", images), ground_truth=truth, group_by_folder=True
    )
    a, b = result["groups"]
    assert (a["group"], a["images"], b["group"], b["images"]) == ("a", 2, "b", 2)
    assert a["overall"]["matching"]["accuracy_50"] == 1
    assert b["overall"]["matching"]["accuracy_50"] == 0
    assert b["overall"]["ap"]["max_dets_100"]["AP"] == pytest.approx(0)
    flat = {name.replace("/", "_"): found for name, found in images.items()}
    files = label_folder(tmp_path / "flat", {n.replace("/", "_"): m for n, m in MAPS.items()})
    ours = dataset(tmp_path / "ours_flat", flat)
    groups = evaluate(dataset=ours, ground_truth=files, group_by_folder=True)["groups"]
    assert [row["group"] for row in groups] == ["."]


def test_coco_results_by_id_and_instances_by_name(tmp_path):
    rle = [{"size": [30, 40], "counts": codec.encode(field() == v).decode()} for v in (1, 2, 3)]
    images = [{"id": 0, "file_name": "x/a.jpg", "height": 30, "width": 40}]
    entries = [
        {"id": n, "image_id": 0, "category_id": 5, "segmentation": item, "iscrowd": 0, "area": 64}
        for n, item in enumerate(rle, start=1)
    ]
    truth = {"images": images, "annotations": entries, "categories": [{"id": 5, "name": "cell"}]}
    results = [{**item, "score": 0.5} for item in entries]
    moved = {**truth, "images": [{**images[0], "file_name": "y/a.png"}]}
    for name, data in (("truth", truth), ("results", results), ("moved", moved)):
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    for name, how in (("results", "id"), ("moved", "stem"), ("truth", "path")):
        result = evaluate(
            ground_truth=str(tmp_path / "truth.json"), predictions=str(tmp_path / f"{name}.json")
        )
        assert result["settings"]["images_paired_by"] == how
        assert result["overall"]["matching"]["accuracy_50_95"] == 1
        assert result["overall"]["ap"]["max_dets_100"]["AP"] == pytest.approx(1)


def test_categories_can_be_ignored(tmp_path):
    table = Categories((NUCLEUS, Category(4, "mitosis", True, "#00ff00")))
    label_map = field()
    sides = [
        Segmentation(30, 40, tuple(segment(label_map == v, c, 0.5) for v, c in pairs))
        for pairs in ([(1, 1), (2, 1), (3, 4)], [(1, 4), (2, 1), (3, 1)])
    ]
    truth, ours = (
        dataset(tmp_path / name, {"a.png": side}, task="instance", categories=table)
        for name, side in zip(("truth", "ours"), sides, strict=True)
    )
    told = evaluate(dataset=ours, ground_truth=truth)["overall"]["matching"]
    assert told["accuracy_50"] == 1 / 5
    result = evaluate(dataset=ours, ground_truth=truth, ignore_categories=True)
    assert result["overall"]["matching"]["accuracy_50"] == 1
    assert result["settings"]["categories"] == "not told apart"


def test_saves_beside_the_report(tmp_path, truth):
    ours = dataset(tmp_path / "ours", perfect("panoptic"))
    result = evaluate(dataset=ours, ground_truth=truth, save=True)
    assert json.loads((tmp_path / "ours" / "report" / "evaluation.json").read_text()) == result


def test_tells_how_far_it_is(tmp_path, truth):
    seen = []
    evaluate(
        dataset=dataset(tmp_path / "ours", perfect("panoptic")),
        ground_truth=truth,
        metrics=["matching"],
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(2, 4), (4, 4)]  # a part after the other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": ["matchin"]}, "unknown metric 'matchin'; did you mean 'matching'"),
        ({"unknown_categories": "voif"}, "is 'voif'; did you mean 'void'"),
        ({"ap_backend": "pycoco"}, "unknown AP backend 'pycoco'; did you mean 'pycocotools'"),
        ({"ground_truth_kind": "semantic", "metrics": ["ap"]}, "do not allow ap"),
        ({"dataset": None}, "nothing to evaluate"),
        ({"dataset": None, "predictions": "x", "save": True}, "nowhere to save"),
        ({"dataset": "nowhere"}, "no such file or folder"),
    ],
)
def test_bad_usage(tmp_path, truth, arguments, message):
    ours = dataset(tmp_path / "ours", perfect("panoptic"))
    with pytest.raises(ValueError, match=message):
        evaluate(**{"dataset": ours, "ground_truth": truth, **arguments})


def test_objects_against_a_semantic_side_have_no_panoptic_quality(tmp_path, truth):
    ours = dataset(tmp_path / "ours", perfect("semantic"), task="semantic")
    with pytest.raises(ValueError, match=r"instance ground truth \(labels\) .* do not allow pq"):
        evaluate(dataset=ours, ground_truth=truth, metrics=["pq"])


def test_a_damaged_mask_is_named(tmp_path, truth):
    images = [
        {"id": n, "file_name": name, "height": 30, "width": 40} for n, name in enumerate(MAPS)
    ]
    whole = {"size": [30, 40], "counts": codec.encode(field() > 0).decode()}
    entries = [
        {"image_id": 1, "category_id": 1, "segmentation": segmentation}
        for segmentation in (whole, {**whole, "counts": "04"})
    ]
    data = {"images": images, "annotations": entries, "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "bad.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"predictions of a/2.png: segment 2: malformed RLE: the"):
        evaluate(predictions=str(tmp_path / "bad.json"), ground_truth=truth)


def test_real_nuclei_against_themselves_from_another_folder(shared_data, tmp_path):
    folder = shared_data / "nuclei-dsb2018" / "test" / "labels"
    maps = {path.name: cv2.imread(str(path), -1) for path in sorted(folder.glob("*.png"))[:6]}
    images = {f"images/{name}": labelled(label_map) for name, label_map in maps.items()}
    result = evaluate(dataset=dataset(tmp_path / "ours", images), ground_truth=str(folder))
    assert result["settings"]["images_paired_by"] == "stem"
    assert result["counts"]["without_prediction"] == 62 - 6
    row = result["overall"]["matching"]["thresholds"][-1]
    assert row["tp"] == sum(len(np.unique(m)) - 1 for m in maps.values())
    assert row["fp"] == 0
