import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from small_datasets import small_dataset

from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.sources.open import open_source
from pipeline.exporters import export
from pipeline.masks import codec

SQUARE = [[1, 1, 5, 1, 5, 5, 1, 5]]


def instances(**annotation):
    first = {"id": 1, "image_id": 4, "category_id": 3, "segmentation": SQUARE, **annotation}
    return {
        "images": [{"id": 4, "file_name": "a/b.jpg", "height": 10, "width": 12}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [first],
    }


def panoptic(folder, pixels, segments):
    (folder / "pan").mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "pan" / "4.png"), np.stack([pixels * 0, pixels * 0, pixels], 2))
    data = {
        "annotations": [{"image_id": 4, "file_name": "4.png", "segments_info": segments}],
        "categories": [{"id": 1, "name": "sky", "isthing": 0}],
    }
    (folder / "pan.json").write_text(json.dumps(data))
    return str(folder / "pan.json")


def write(path, data):
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return str(path)


def test_coco_photos_read_as_pycocotools_reads_them(shared_data):
    path = str(shared_data / "coco-photos" / "instances.json")
    source, truth = open_source(path), COCO(path)
    assert (source.kind, source.task) == ("coco-instances", "instance")
    crowds = 0
    for entry in source.entries():
        found = source.read(entry.key)
        annotations = truth.imgToAnns[entry.key]
        assert [text.decode() for text in found.counts] == [
            truth.annToRLE(item)["counts"].decode() for item in annotations
        ]
        assert found.coco_areas.tolist() == [item["area"] for item in annotations]
        crowds += int(found.iscrowd.sum())
    assert crowds == 4


def test_a_panoptic_file_by_its_json_and_by_its_folder(tmp_path):
    pixels = np.array([[7, 7, 0], [9, 9, 9]], np.uint8)
    path = panoptic(tmp_path, pixels, [{"id": 7, "category_id": 1}, {"id": 9, "category_id": 1}])
    for uri in (path, path.removesuffix(".json")):
        source = open_source(uri)
        assert (source.kind, source.task) == ("coco-panoptic", "panoptic")
        assert not source.categories[1].isthing
        found = source.read(4)
        assert [codec.area(text, 2, 3) for text in found.counts] == [2, 3]


def test_results_have_ids_but_no_names(tmp_path):
    counts = codec.encode(np.eye(4)).decode()
    result = {"image_id": 4, "category_id": 3, "score": 0.5}
    rle = {"size": [4, 4], "counts": counts}
    source = open_source(write(tmp_path / "r.json", [{**result, "segmentation": rle}]))
    assert source.kind == "coco-results"
    assert [(entry.key, entry.name) for entry in source.entries()] == [(4, None)]
    assert source.read(4).scores.tolist() == [0.5]


def test_folders_of_maps(tmp_path):
    deep, flat = tmp_path / "deep", tmp_path / "flat"
    for folder, kind in ((deep, np.uint16), (flat, np.uint8)):
        (folder / "sub").mkdir(parents=True)
        cv2.imwrite(str(folder / "sub" / "x.png"), np.array([[0, 5], [5, 255]], kind))
        (folder / "notes.txt").write_text("no map")
    labels, semantic = open_source(str(deep)), open_source(str(flat))
    assert (labels.kind, semantic.kind) == ("labels", "semantic")
    assert [entry.name for entry in labels.entries()] == ["sub/x.png"]
    assert labels.read(1).category_ids.tolist() == [1, 1]
    assert semantic.read(1).category_ids.tolist() == [5]
    shifted = open_source(str(flat), pixel_offset=1)
    assert shifted.read(1).category_ids.tolist() == [1, 6]
    chosen = open_source(str(flat), void=[5])
    assert chosen.read(1).category_ids.tolist() == [0, 255]
    forced = open_source(str(flat), "labels")
    assert len(forced.read(1)) == 2


def test_the_other_side_tells_what_a_folder_of_maps_holds(tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    cv2.imwrite(str(maps / "x.png"), np.array([[1, 2], [2, 40]], np.uint8))
    cat = {"id": 3, "name": "cat"}
    objects = open_source(write(tmp_path / "i.json", instances()))
    assert open_source(str(maps), other=objects).kind == "labels"
    path = panoptic(tmp_path, np.ones((2, 2), np.uint8), [{"id": 1, "category_id": 1}])
    assert cat["id"] not in open_source(path).categories
    assert open_source(str(maps), other=open_source(path)).kind == "semantic"


def test_crowds_and_missing_areas(tmp_path):
    source = open_source(write(tmp_path / "i.json", instances(iscrowd=1)))
    found = source.read(4)
    assert found.iscrowd.tolist() == [True]
    assert np.isnan(found.coco_areas).all()
    assert [entry.name for entry in source.entries()] == ["a/b.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ({"a": 1}, "is no COCO file"),
        ([1, 2], "an entry of the annotations is 1, no object"),
        ([[1], [2]], "entry 1 of the annotations: it is no object"),
        ("5", "is no COCO file.* a value alone"),
        ({"annotations": [], "images": [{"id": 1}]}, "image 1: it has no height"),
        ({}, "is no COCO file.* an empty object"),
        ({"annotations": None, "images": []}, "its annotations are neither a list nor an object"),
        ([{"image_id": 1, "category_id": 1}], "annotation of image 1: it has no score"),
        (instances(image_id=5), "annotation 1 of image 5: its image_id 5 is not under images"),
        (
            instances(id=[]),
            r"annotation \[\] of image 4: its id is \[\], neither a number nor a text",
        ),
    ],
)
def test_files_that_are_not_what_they_should_be(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        open_source(write(tmp_path / "x.json", content))


def test_null_among_the_entries_is_left_out_and_counted(tmp_path):
    data = instances()
    data["annotations"].append(None)
    data["images"].append(None)
    path = write(tmp_path / "x.json", data)
    with pytest.raises(ValueError, match="image null: it is no object"):
        open_source(path)
    source = open_source(path, skip_invalid=True)
    assert source.left_out.count == 2
    assert len(source.read(4)) == 1


def test_categories_as_a_map_of_ids_to_names(tmp_path):
    path = write(tmp_path / "x.json", {**instances(), "categories": {"3": "cat"}})
    assert [(id_, item.name) for id_, item in open_source(path).categories.items()] == [(3, "cat")]
    with pytest.raises(ValueError, match='category "cat" is no object with an id and a name'):
        open_source(write(tmp_path / "y.json", {**instances(), "categories": ["cat"]}))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2]], "annotation 1 of image 4: a polygon needs"),
        ({"size": [9, 9], "counts": [81]}, "annotation 1 of image 4: RLE size"),
        ({"size": [10, 12], "counts": [1, 2]}, "annotation 1 of image 4: malformed RLE"),
    ],
)
def test_a_bad_mask_is_named(tmp_path, segmentation, message):
    source = open_source(write(tmp_path / "x.json", instances(segmentation=segmentation)))
    with pytest.raises(ValueError, match=message):
        source.read(4)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ((7,), "segment 9 is in the PNG but not in the JSON"),
        ((7, 8, 9), "segment 8 is in the JSON"),
    ],
)
def test_panoptic_png_and_json_must_agree(tmp_path, ids, message):
    segments = [{"id": id_, "category_id": 1} for id_ in ids]
    source = open_source(panoptic(tmp_path, np.array([[7, 9]], np.uint8), segments))
    with pytest.raises(ValueError, match=message):
        source.read(4)


def test_bad_places_and_kinds(tmp_path):
    file = write(tmp_path / "i.json", instances())
    (tmp_path / "empty").mkdir()
    for uri, kind, message in (
        (tmp_path / "nowhere", "auto", "no such file or folder"),
        (tmp_path / "empty", "auto", r"holds no .png, .tif, .tiff file"),
        (tmp_path / "empty", "coco-instances", "is a folder, coco-instances wants a file"),
        (tmp_path / "empty", "dataset", "holds no dataset of ours"),
        (file, "labels", "is a file, labels wants a folder"),
        (file, "coco-panoptic", "is coco-instances, not coco-panoptic"),
        (file, "lables", "unknown kind 'lables'; did you mean 'labels'"),
    ):
        with pytest.raises(ValueError, match=message):
            open_source(str(uri), kind)


def test_panoptic_json_without_its_folder(tmp_path):
    path = write(tmp_path / "p.json", {"annotations": [{"image_id": 1, "segments_info": []}]})
    with pytest.raises(ValueError, match="needs its PNG files in"):
        open_source(path)


def test_a_folder_of_maps_that_says_what_its_values_mean(tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.array([[0, 5], [7, 9]], np.uint16))
    rows = [{"id": 0, "name": "background"}, {"id": 12, "pixel": 5, "name": "cat"}]
    rows += [{"id": 7, "name": "sky", "isthing": 0}]
    write(tmp_path / "categories.json", {"unlabelled": 9, "categories": rows})
    source = open_source(str(tmp_path))
    assert (source.kind, source.task) == ("semantic", "semantic")
    assert {item.name: (item.id, item.isthing) for item in source.categories.values()} == {
        **{"background": (0, False), "cat": (12, True), "sky": (7, False)}
    }
    assert source.categories[0].is_background
    assert source.read(1).category_ids.tolist() == [0, 12, 7]
    assert open_source(str(tmp_path), void=[0, 9]).read(1).category_ids.tolist() == [12, 7]
    with pytest.raises(ValueError, match=r"x\.png holds 9, which categories\.json does not list"):
        open_source(str(tmp_path), void=[]).read(1)
    with pytest.raises(ValueError, match="there is no offset to give"):
        open_source(str(tmp_path), pixel_offset=1)
    assert open_source(str(tmp_path), "labels").categories is None
    write(tmp_path / "categories.json", [1])
    with pytest.raises(ValueError, match=r"categories\.json does not say what pixels mean"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("name", ["semantic-png", "semantic-png-stuffthing"])
def test_our_own_maps_say_what_they_mean(tmp_path, name):
    ledger = small_dataset(tmp_path / "dataset", "semantic")
    export(ledger, name, str(tmp_path / "maps"))
    assert open_source(str(tmp_path / "maps")).categories == open_source(ledger.uri).categories
    for maps in ({"ground_truth": str(tmp_path / "maps")}, {"predictions": str(tmp_path / "maps")}):
        result = evaluate(**{"dataset": ledger.uri, "ground_truth": ledger.uri} | maps)
        # Maps of names that had to be escaped find no partner: not all is found, but all is right.
        assert [row["miou"]["precision"] for row in result["per_category"]] == [1, 1, 1]
        assert result["settings"]["categories"] == "by id"
