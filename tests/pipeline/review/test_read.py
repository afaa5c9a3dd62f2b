"""Corrections as the tools write them: the writers here follow the tools' documents."""

import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.masks import codec
from pipeline.review.label_studio_file import read_brush
from pipeline.review.read import read_corrections


def blob(seed=0, size=(30, 41)):
    rng = np.random.default_rng(seed)
    mask = (rng.random(size) < 0.5).astype(np.uint8)
    mask[5:20, 10:30] = 1
    mask[8:11, 14:20] = 0
    return mask


def brush(mask, *, plain=False):
    """thi.ng rle-pack of RGBA bytes, bit by bit: runs, or single values one by one."""
    rgba = np.repeat(mask.reshape(-1) * 255, 4).tolist()
    sizes = (3, 4, 8, 16)
    bits = f"{len(rgba):032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    at = 0
    while at < len(rgba):
        if plain:
            count = min(200, len(rgba) - at)
            bits += "0" + "10" + f"{count - 1:08b}"
            bits += "".join(f"{value:08b}" for value in rgba[at : at + count])
            at += count
            continue
        end = at
        while end < len(rgba) and rgba[end] == rgba[at] and end - at < 1 << 16:
            end += 1
        number = next(i for i, size in enumerate(sizes) if end - at <= 1 << size)
        bits += f"1{number:02b}" + f"{end - at - 1:0{sizes[number]}b}" + f"{rgba[at]:08b}"
        at = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def task(results, **annotation):
    return {
        "id": 7,
        "data": {"image": "/data/local-files/?d=in/a%20b.png", "file_name": "a b.png"},
        "annotations": [{"result": results, "updated_at": "2026-01-02", **annotation}],
        "predictions": [{"result": []}],
    }


def result(mask, label="cell", **more):
    height, width = mask.shape
    return {
        "type": "brushlabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": brush(mask), "brushlabels": [label]},
        **more,
    }


def masks_of(correction):
    return [
        (item.category, codec.decode(item.counts, correction.height, correction.width))
        for item in correction.regions
    ]


def written(path, data):
    path.write_text(json.dumps(data))
    return str(path)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_a_brush_loses_no_pixel(seed, height, width, plain):
    mask = (np.random.default_rng(seed).random((height, width)) < 0.5).astype(np.uint8)
    assert np.array_equal(read_brush(brush(mask, plain=plain), height, width), mask)


@pytest.mark.parametrize("cut", [3, 8, -1])
def test_a_broken_brush_is_named(cut):
    code = brush(blob())
    with pytest.raises(ValueError, match="ends too early"):
        read_brush(code[:cut], 30, 41)
    with pytest.raises(ValueError, match="a brush of 1230 pixels in a picture of 5 × 5"):
        read_brush(code, 5, 5)


def test_label_studio_tasks(tmp_path):
    tasks = [
        task([result(blob()), result(blob(1), "debris")], completed_by={"email": "ada@lab"}),
        {**task([]), "annotations": []},  # nobody looked at it
        task([result(blob(2))], was_cancelled=True),
    ]
    (found,) = read_corrections(written(tmp_path / "x.json", tasks))
    assert (found.file_name, found.by, found.at) == ("a b.png", "ada@lab", "2026-01-02")
    (first, one), (second, other) = masks_of(found)
    assert (first, second) == ("cell", "debris")
    assert np.array_equal(one, blob())
    assert np.array_equal(other, blob(1))


def test_the_last_annotation_counts_and_parts_of_one_are_joined(tmp_path):
    ring = [[0, 0], [50, 0], [50, 50], [0, 50]]
    part = {
        "type": "polygonlabels",
        "original_width": 40,
        "original_height": 20,
        "meta": {"annotation_id": 5},
    }
    parts = [
        {**part, "value": {"points": ring, "polygonlabels": ["cell"]}},
        {**part, "value": {"points": [[x + 50, y] for x, y in ring], "polygonlabels": ["cell"]}},
    ]
    data = task([])
    data["annotations"] = [
        {"result": parts, "updated_at": "2026-02-01"},
        {"result": [], "updated_at": "2026-01-01"},
    ]
    (found,) = read_corrections(written(tmp_path / "x.json", [data]))
    ((_, mask),) = masks_of(found)
    assert mask[:10].all()
    assert not mask[10:].any()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"image_rotation": 90}, "turned"),
        ({"type": "rectanglelabels"}, "neither brush nor polygon"),
        ({"value": {"brushlabels": ["cell"]}}, "lacks 'rle'"),
        ({"original_width": 5}, "in a picture of 5"),
        ({"value": {"brushlabels": ["a", "b"], "rle": []}}, "the labels ['a', 'b']: one is due"),
        ({"value": {"brushlabels": ["cell"], "rle": [-1, 300]}}, "no list of bytes"),
        ({"value": {"brushlabels": ["cell"], "rle": "abc"}}, "no list of bytes"),
    ],
)
def test_what_label_studio_says_that_is_no_mask_is_a_problem_of_that_picture(
    tmp_path, more, message
):
    (found,) = read_corrections(written(tmp_path / "x.json", [task([result(blob(), **more)])]))
    assert message in found.problem


def test_a_result_that_is_no_object_is_a_problem_of_its_picture(tmp_path):
    (found,) = read_corrections(written(tmp_path / "x.json", [task([5])]))
    assert found.problem == "a result is 5, no object"


def cvat(shapes, size=(30, 41), name="a/b.png"):
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task>'
        "<owner><username>ada</username></owner><updated>2026-03-04</updated></task></meta>"
        f'<image id="0" name="{name}" width="{size[1]}" height="{size[0]}">{shapes}</image>'
        "</annotations>"
    )


def cvat_mask(mask, label="cell"):
    rows, columns = np.nonzero(mask)
    top, left = rows.min(), columns.min()
    box = mask[top : rows.max() + 1, left : columns.max() + 1]
    runs, value = [], 0
    for pixel in box.reshape(-1).tolist():
        if not runs or pixel != value:
            runs += [0] if not runs and pixel else []
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return (
        f'<mask label="{label}" source="manual" occluded="0" rle="{", ".join(map(str, runs))}" '
        f'left="{left}" top="{top}" width="{box.shape[1]}" height="{box.shape[0]}" z_order="0"/>'
    )


@pytest.mark.parametrize("zipped", [False, True])
def test_cvat_masks_lose_no_pixel(tmp_path, zipped):
    text = cvat(cvat_mask(blob()) + cvat_mask(blob(3), "debris"))
    path = tmp_path / ("x.zip" if zipped else "x.xml")
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("annotations.xml", text)
    else:
        path.write_text(text)
    (found,) = read_corrections(str(path))
    assert (found.file_name, found.by, found.at) == ("a/b.png", "ada", "2026-03-04")
    (first, one), (second, other) = masks_of(found)
    assert (first, second) == ("cell", "debris")
    assert np.array_equal(one, blob())
    assert np.array_equal(other, blob(3))


def test_cvat_polygons_of_one_group_are_one_region(tmp_path):
    square = '<polygon label="cell" points="{0},0;{1},0;{1},10;{0},10" group_id="{2}"/>'
    shapes = square.format(0, 5, 1) + square.format(20, 25, 1) + square.format(30, 35, 0)
    (tmp_path / "x.xml").write_text(cvat(shapes))
    (found,) = read_corrections(str(tmp_path / "x.xml"))
    assert sorted(int(mask.sum()) for _, mask in masks_of(found)) == [50, 100]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ('<box label="cell" xtl="1"/>', "a <box> of 'cell' is neither mask nor polygon"),
        ('<mask label="cell" rle="1,x" left="0" top="0" width="2" height="2"/>', "invalid literal"),
        ('<mask label="cell" rle="9" left="0" top="0" width="2" height="2"/>', "do not fill"),
        ('<mask label="cell" rle="0,4" left="40" top="0" width="2" height="2"/>', "leaves the"),
    ],
)
def test_what_cvat_says_that_is_no_mask_is_a_problem_of_that_picture(tmp_path, shapes, message):
    (tmp_path / "x.xml").write_text(cvat(shapes))
    (found,) = read_corrections(str(tmp_path / "x.xml"))
    assert message in found.problem


def test_coco_instances(tmp_path):
    code = {"size": [30, 41], "counts": codec.encode(blob()).decode()}
    data = {
        "images": [{"id": 1, "file_name": "a/b.png", "height": 30, "width": 41}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 4, "segmentation": code}],
        "categories": [{"id": 4, "name": "cell"}],
    }
    (found,) = read_corrections(written(tmp_path / "x.json", data))
    ((name, mask),) = masks_of(found)
    assert (found.file_name, name) == ("a/b.png", "cell")
    assert np.array_equal(mask, blob())


def test_what_is_wrong_in_coco_is_a_problem_of_its_picture_and_no_flag_is_named(tmp_path):
    code = {"size": [30, 41], "counts": codec.encode(blob()).decode()}
    entry = {"id": 0, "image_id": 1, "category_id": 4, "iscrowd": "0", "segmentation": code}
    data = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 30, "width": 41} for n in (1, 2)],
        "annotations": [entry, {**entry, "id": 1, "image_id": 2, "segmentation": None}],
        "categories": [{"id": 4, "name": "cell"}],
    }
    good, bad = read_corrections(written(tmp_path / "x.json", data))
    assert (len(good.regions), good.problem) == (1, "")
    assert bad.problem.endswith("annotation 1 of image 2: it has no segmentation")
    data["annotations"][1]["id"] = 0
    with pytest.raises(ValueError, match=r"an earlier one has its id .* leave their ids out$"):
        read_corrections(written(tmp_path / "x.json", data))
    for item in data["images"]:
        del item["file_name"]
    data["annotations"] = []
    found = read_corrections(written(tmp_path / "x.json", data))
    assert [item.problem for item in found] == ["the file gives it no name"] * 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "declares XML entities"),
        ("x.xml", "<annotations/>", "holds no <image>"),
        ("x.xml", "<annotations", "is no XML"),
        ("x.zip", "nonsense", "is no zip|is no XML"),
        ("x.json", '[{"image": "a.png"}]', "an entry has no data"),
        ("x.json", '{"a": 1}', "is no COCO file"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_corrections(str(tmp_path / name))
