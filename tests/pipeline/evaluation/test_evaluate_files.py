"""Ground truth as it occurs: read as it is meant, as pycocotools reads it, or refused by name."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.evaluation.evaluate import evaluate
from pipeline.masks import codec


def rle(x, y, w=8, h=8):
    mask = np.zeros((40, 40), np.uint8)
    mask[y : y + h, x : x + w] = 1
    return {"size": [40, 40], "counts": codec.encode(mask).decode()}


def entry(number, image, x, y, **more):
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "segmentation": rle(x, y),
        "bbox": [x, y, 8, 8],
        "area": 64,
        "iscrowd": 0,
        **more,
    }


def truth_file():
    """Two pictures with two objects each."""
    return {
        "images": [
            {"id": n, "width": 40, "height": 40, "file_name": f"p/{name}.png"}
            for n, name in ((1, "a"), (2, "b"))
        ],
        "annotations": [
            entry(1, 1, 2, 2),
            entry(2, 1, 20, 20),
            entry(3, 2, 5, 5),
            entry(4, 2, 25, 8),
        ],
        "categories": [{"id": 1, "name": "cell"}],
    }


def found_file():
    """Of the four objects three, one of them a little beside, and one that is not there."""
    data = truth_file()
    data["annotations"][1] = entry(2, 1, 21, 20)
    data["annotations"][3] = entry(4, 2, 25, 25)
    for score, item in zip((0.9, 0.8, 0.7, 0.6), data["annotations"], strict=True):
        item["score"] = score
    return data


def measured(tmp_path, truth, found=None, **options):
    for name, data in (("truth", truth), ("found", found or found_file())):
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    return evaluate(
        ground_truth=str(tmp_path / "truth.json"),
        predictions=str(tmp_path / "found.json"),
        metrics=["ap"],
        **options,
    )


def ap(result):
    return result["overall"]["ap"]["max_dets_100"]


def official(truth, found=None, iou_type="segm"):
    """The twelve figures of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        keep = {"segm": "segmentation", "bbox": "bbox"}[iou_type]
        names = ("image_id", "category_id", "score", keep)
        results = [
            {name: item[name] for name in names} for item in (found or found_file())["annotations"]
        ]
        done = COCOeval(coco, coco.loadRes(results), iou_type)
        done.evaluate()
        done.accumulate()
        done.summarize()
    return [None if value == -1 else round(float(value), 12) for value in done.stats]


PLAIN = official(truth_file())


def test_the_plain_file_gives_pycocotools_figures(tmp_path):
    assert 0 < PLAIN[0] < 1
    assert list(ap(measured(tmp_path, truth_file())).values()) == PLAIN


def as_text(data):
    """Every number but those of masks as text."""
    for item in data["images"]:
        item.update({key: str(item[key]) for key in ("id", "width", "height")})
    for item in data["annotations"]:
        names = ("id", "image_id", "category_id", "area", "iscrowd")
        item.update({key: str(item[key]) for key in names})
        item["segmentation"]["size"] = ["40", "40"]
    data["categories"][0]["id"] = "1"


def as_objects(data):
    for name in ("images", "annotations", "categories"):
        data[name] = {str(item["id"]): item for item in data[name]}


def without_ids_inside(data):
    as_objects(data)
    for item in data["images"].values():
        del item["id"]


def flat_polygons(data):
    for item in data["annotations"]:
        x, y, w, h = item["bbox"]
        item["segmentation"] = [x, y, x + w, y, x + w, y + h, x, y + h]


def backslashes(data):
    for item in data["images"]:
        item["file_name"] = item["file_name"].replace("/", "\\")


def floats(data):
    for item in data["annotations"]:
        item.update(image_id=float(item["image_id"]), category_id=1.0, iscrowd=0.0)


def flags(data):
    for item, value in zip(data["annotations"], (False, None, "false", " 0"), strict=True):
        item["iscrowd"] = value


def no_ids(data):
    for item in data["annotations"]:
        del item["id"]


def ids_from_zero(data):
    """COCOeval takes the annotation 0 for none; nobody means that."""
    for item in data["annotations"]:
        item["id"] -= 1


def empty_ids(data):
    for item in data["annotations"]:
        item["id"] = ""


def no_file_names(data):
    del data["images"][0]["file_name"]
    data["images"][1]["file_name"] = None


def flat_polygons_as_text(data):
    flat_polygons(data)
    for item in data["annotations"]:
        item["segmentation"] = [str(value) for value in item["segmentation"]]


def twice_the_same_image(data):
    data["images"].append(dict(data["images"][0]))


def long_ids(data):
    """Two ids that a 64-bit float cannot tell apart."""
    for item in data["images"]:
        item["id"] += 2**70
    for item in data["annotations"]:
        item["image_id"] += 2**70


def odd_areas(data):
    data["annotations"][0]["area"] = float("nan")
    data["annotations"][1]["area"] = float("inf")
    data["annotations"][2]["area"] = "NaN"
    del data["annotations"][3]["area"]


@pytest.mark.parametrize(
    "change",
    [
        *(as_text, as_objects, without_ids_inside, flat_polygons, backslashes, floats, flags),
        *(no_ids, twice_the_same_image, long_ids, odd_areas),
        *(ids_from_zero, empty_ids, no_file_names, flat_polygons_as_text),
    ],
)
def test_what_can_only_mean_one_thing_is_read_so(tmp_path, change):
    truth = truth_file()
    change(truth)
    assert list(ap(measured(tmp_path, truth)).values()) == PLAIN


def test_text_ids_on_one_side_are_the_other_sides_numbers(tmp_path):
    results = [
        {"image_id": str(item["image_id"]), "category_id": "1", "score": str(item["score"])}
        | {"segmentation": item["segmentation"]}
        for item in found_file()["annotations"]
    ]
    result = measured(tmp_path, truth_file(), results)
    assert list(ap(result).values()) == PLAIN
    assert result["settings"]["images_paired_by"] == "id"


def test_undeclared_categories_are_left_out_as_pycocotools_does(tmp_path):
    truth = truth_file()
    truth["annotations"][3]["category_id"] = 7
    result = measured(tmp_path, truth)
    assert list(ap(result).values()) == official(truth) != PLAIN
    assert result["counts"]["undeclared_categories"] == [7]


def changed(index, **more):
    def change(data):
        data["annotations"][index] |= more

    return change


def dropped(index, key):
    def change(data):
        del data["annotations"][index][key]

    return change


def image(**more):
    def change(data):
        data["images"][0] |= more

    return change


def same_id(data):
    data["images"][1]["id"] = 1


def same_annotation_id(data):
    data["annotations"][3]["id"] = 1


def sizes_differ(data):
    data["images"].append({**data["images"][0], "width": 41})


def one_without_a_name(data):
    del data["images"][0]["file_name"]


def two_names(data):
    data["categories"].append({"id": 1, "name": "nucleus"})


def no_category_id(data):
    data["categories"].append({"id": None, "name": "nucleus"})


def null_category(data):
    data["categories"].append(None)


LATER = "annotation 3 of image 2: "

INVALID = {
    LATER + "it has no segmentation": [changed(2, segmentation=None), dropped(2, "segmentation")],
    LATER + "segmentation is an empty list": [changed(2, segmentation=[])],
    LATER + "a polygon needs": [
        changed(2, segmentation=[[]]),
        changed(2, segmentation=[[1, 2, 3, 4]]),
    ],
    LATER + "a polygon has a coordinate": [
        changed(2, segmentation=[[1, 2, 9, 2, float("nan"), 9]])
    ],
    "malformed RLE": [changed(2, segmentation={"size": [40, 40], "counts": "04"})],
    LATER + "RLE size": [changed(2, segmentation={"size": [40, 41], "counts": "0"})],
    LATER + "its category_id is null": [changed(2, category_id=None)],
    LATER + "it has no category_id": [dropped(2, "category_id")],
    LATER + 'its category_id is "cell"': [changed(2, category_id="cell")],
    LATER + "its category_id is true": [changed(2, category_id=True)],
    LATER + "its category_id is 1.5": [changed(2, category_id=1.5)],
    LATER + "its category_id is NaN": [changed(2, category_id=float("nan"))],
    LATER + "its category_id .* has more than 64 bits": [changed(2, category_id=2**70)],
    LATER + "its iscrowd is 2": [changed(2, iscrowd=2)],
    LATER + 'its iscrowd is "maybe"': [changed(2, iscrowd="maybe")],
    LATER + 'its area is "big"': [changed(2, area="big")],
    LATER + "its area is -5": [changed(2, area=-5)],
    "annotation 3 of image null: its image_id is null": [changed(2, image_id=None)],
    "annotation 3 of image 9: its image_id 9 is not under images": [changed(2, image_id=9)],
}
CASES = [(change, message) for message, changes in INVALID.items() for change in changes]


@pytest.mark.parametrize(("change", "message"), CASES)
def test_an_entry_that_cannot_be_used_is_named_or_left_out_and_counted(tmp_path, change, message):
    truth = truth_file()
    change(truth)
    with pytest.raises(ValueError, match=message) as caught:
        measured(tmp_path, truth)
    assert "\n" not in str(caught.value)
    result = measured(tmp_path, truth, skip_invalid=True)
    without = truth_file()
    del without["annotations"][2]
    assert list(ap(result).values()) == official(without)
    counts = result["counts"]
    assert (counts["true_segments"], counts["invalid_ground_truth"]) == (3, 1)
    assert message.split(".")[0] in counts["names"]["invalid_ground_truth"][0]


def test_invalid_predictions_are_named_or_left_out_and_counted(tmp_path):
    found = found_file()
    found["annotations"][0]["score"] = float("nan")
    with pytest.raises(ValueError, match=r"annotation 1 of image 1: its score is NaN"):
        measured(tmp_path, truth_file(), found)
    result = measured(tmp_path, truth_file(), found, skip_invalid=True)
    without = found_file()
    del without["annotations"][0]
    assert list(ap(result).values()) == official(truth_file(), without)
    assert result["counts"]["invalid_predictions"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (image(width=None), "image p/a.png: its width is null"),
        (image(width=0), "image p/a.png: its size 0 × 40 is none"),
        (image(file_name=7), "image 7: its file_name is 7, no text"),
        (image(id=[1]), "image p/a.png: its id is"),
        (same_id, "image id 1 is that of 'p/a.png' and 'p/b.png'"),
        (sizes_differ, "image id 1 is that of a 'p/a.png' of 40 × 40 and one of 41 × 40"),
        (one_without_a_name, "image 1: it has no file_name, where others have one"),
        (same_annotation_id, "annotation 1 of image 2: an earlier one has its id"),
        (two_names, "category id 1 is that of 'cell' and 'nucleus'"),
        (no_category_id, 'category "nucleus": its id is null'),
        (null_category, "category null is no object"),
    ],
)
def test_what_stands_for_two_things_or_none_is_refused(tmp_path, change, message):
    truth = truth_file()
    change(truth)
    with pytest.raises(ValueError, match=message):
        measured(tmp_path, truth)


def test_of_annotations_of_one_id_the_first_is_kept_where_invalid_entries_are_left_out(tmp_path):
    truth = truth_file()
    for index in (1, 3):
        truth["annotations"][index]["id"] = 0
    truth["annotations"].append({**truth["annotations"][2], "id": "3"})
    with pytest.raises(
        ValueError, match=r"annotation 0 of image 2: an earlier one has its id \(so it is with 2\)"
    ):
        measured(tmp_path, truth)
    result = measured(tmp_path, truth, skip_invalid=True)
    without = truth_file()
    del without["annotations"][3]
    assert list(ap(result).values()) == official(without)
    assert result["counts"]["invalid_ground_truth"] == 2


@pytest.mark.parametrize("change", [two_names, no_category_id, null_category])
def test_categories_that_cannot_be_used_are_left_out_and_counted(tmp_path, change):
    truth = truth_file()
    change(truth)
    result = measured(tmp_path, truth, skip_invalid=True)
    assert list(ap(result).values()) == PLAIN
    assert result["counts"]["invalid_ground_truth"] == 1


def test_one_id_of_two_pictures_costs_both_where_invalid_entries_are_left_out(tmp_path):
    truth = truth_file()
    truth["images"].append({"id": 1, "width": 40, "height": 40, "file_name": "p/c.png"})
    result = measured(tmp_path, truth, skip_invalid=True)
    without = truth_file()
    del without["images"][0], without["annotations"][:2]
    found = found_file()
    del found["annotations"][:2]
    assert list(ap(result).values()) == official(without, found)
    assert result["counts"]["invalid_ground_truth"] == 3


def test_a_file_under_two_ids_is_named_and_paired_as_told(tmp_path):
    truth = truth_file()
    truth["images"].append({**truth["images"][0], "id": 3})
    truth["annotations"] += [entry(5, 3, 2, 2), entry(6, 3, 20, 20)]
    with pytest.raises(ValueError, match=r"lists 'p/a.png' under the ids 1 and 3: --pair-by id"):
        measured(tmp_path, truth)
    by_id = measured(tmp_path, truth, pair_by="id")
    assert list(ap(by_id).values()) == official(truth)
    by_path = measured(tmp_path, truth, pair_by="path")
    assert by_path["counts"]["images"] == 3
    both = found_file()
    both["annotations"] += [{**item, "image_id": 3} for item in both["annotations"][:2]]
    assert ap(by_path)["AR_max"] == official(truth, both)[8]


def test_pictures_that_hardly_pair_are_no_figure(tmp_path):
    truth, found = truth_file(), found_file()
    for number in (7, 8, 9):
        for data, folder in ((truth, "old"), (found, "new")):
            name = f"{folder}/{number}-{folder}.png"
            data["images"].append({"id": number, "width": 40, "height": 40, "file_name": name})
    with pytest.raises(ValueError, match=r"only 2 of 5 images .*'old/7-old.png'.*'new/7-new.png'"):
        measured(tmp_path, truth, found)
    assert measured(tmp_path, truth, found, min_paired=0.4)["counts"]["without_prediction"] == 3


def test_categories_that_hardly_pair_are_no_figure(tmp_path):
    truth, found = truth_file(), found_file()
    truth["categories"] += [{"id": 2, "name": "mitosis"}, {"id": 3, "name": "debris"}]
    found["categories"] += [{"id": 5, "name": "tree"}, {"id": 6, "name": "car"}]
    with pytest.raises(ValueError, match=r"only 1 of 3 categories .*'mitosis'.*'tree'"):
        measured(tmp_path, truth, found)
    assert ap(measured(tmp_path, truth, found, min_paired=0))["AP"] == PLAIN[0]


def test_one_name_under_two_ids_is_told_apart_by_id_or_refused(tmp_path):
    truth, found = truth_file(), found_file()
    for data in (truth, found):
        data["categories"].append({"id": 2, "name": "cell"})
    assert list(ap(measured(tmp_path, truth, found)).values()) == official(truth, found)
    found["categories"] = [{"id": 1, "name": "other"}, {"id": 9, "name": "cell"}]
    with pytest.raises(ValueError, match="'cell' under the ids 1 and 2"):
        measured(tmp_path, truth, found)


def boxes_alone(data):
    for item in data["annotations"]:
        del item["segmentation"]
        item["bbox"][0] += 0.25
    data["annotations"][0]["iscrowd"] = 1
    return data


@pytest.mark.parametrize("backend", ["builtin", "pycocotools"])
def test_boxes_give_pycocotools_figures(tmp_path, backend):
    truth, found = boxes_alone(truth_file()), found_file()
    with pytest.raises(ValueError, match=r"it has no segmentation.*--iou-type bbox"):
        measured(tmp_path, truth)
    results = [
        {key: item[key] for key in ("image_id", "category_id", "bbox", "score")}
        for item in found["annotations"]
    ]
    expected = official(truth, found, "bbox")
    assert 0 < expected[0] < 1
    for side in (found, results):
        result = measured(tmp_path, truth, side, iou_type="bbox", ap_backend=backend)
        assert list(ap(result).values()) == expected
        assert result["settings"]["iou_type"] == "bbox"
    with pytest.raises(ValueError, match="boxes have no figure but ap"):
        evaluate(
            ground_truth=str(tmp_path / "truth.json"),
            predictions=str(tmp_path / "found.json"),
            metrics=["miou"],
            iou_type="bbox",
        )


@pytest.mark.parametrize("box", [None, [1, 2, 3], [1, 2, -3, 4], [1, 2, float("nan"), 4]])
def test_a_bad_box_is_named(tmp_path, box):
    truth = boxes_alone(truth_file())
    truth["annotations"][2]["bbox"] = box
    with pytest.raises(ValueError, match="annotation 3 of image 2: its"):
        measured(tmp_path, truth, iou_type="bbox")


def test_processes_change_no_digit(tmp_path):
    truth, found = truth_file(), found_file()
    rng = np.random.default_rng(5)
    truth["images"], truth["annotations"], found["annotations"] = [], [], []
    for n in range(1, 2600):
        name = f"d{n % 3}/{n}.png"
        truth["images"].append({"id": n, "width": 40, "height": 40, "file_name": name})
        x, y, dx, dy = rng.integers(0, 14, 4).tolist()
        truth["annotations"].append(entry(n, n, x, y))
        score = round(float(rng.random()), 2)
        found["annotations"].append(entry(n, n, x + dx % 4, y + dy % 4, score=score))
    found["images"] = truth["images"]
    for name, data in (("truth", truth), ("found", found)):
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    results = [
        evaluate(
            ground_truth=str(tmp_path / "truth.json"),
            predictions=str(tmp_path / "found.json"),
            metrics=["matching", "ap", "pq", "miou", "boundary"],
            group_by_folder=True,
            workers=workers,
        )
        for workers in (1, 2)
    ]
    assert results[0] == results[1]
    assert list(ap(results[0]).values()) == official(truth, found)
    assert sum(row["images"] for row in results[0]["groups"]) == 2599
