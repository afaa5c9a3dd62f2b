from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from small_datasets import small_dataset

from pipeline.report import write, write_report
from pipeline.storage.errors import StorageError
from schemas.records import TASKS


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _data(index: str, key: str = "report-data") -> Any:
    found = re.search(f'<script type="application/json" id="{key}">(.*?)</script>', index)
    assert found
    return json.loads(found[1])


def _page(index: str) -> str:
    return Path(index).read_text(encoding="utf-8")


def test_numbers_cover_everything_and_pictures_a_sample(make_dataset, tmp_path):
    ledger = make_dataset(count=12, failed=3)
    page = _page(write_report(ledger, str(tmp_path / "report"), max_images=5))
    data = _data(page)
    assert len(data["rows"]) == 5
    assert len(data["unlabelled"]) == 3
    assert "showing 5 of 12 labelled images" in page
    assert data["histograms"]["objects"]["spread"]["count"] == 12
    names = {f"full/{row[0]}" for row in data["rows"]}
    written = {name.rpartition(".")[0] for name in _files(tmp_path / "report") if "/" in name}
    assert written == names


def test_numbers_and_pictures_are_those_of_the_task_that_is_shown(tmp_path):
    several = small_dataset(tmp_path / "several", TASKS)
    for task in TASKS:
        alone = small_dataset(tmp_path / task, task)
        seen, due = (
            _data(_page(write_report(ledger, str(tmp_path / f"{name}-{task}"), task=task)))
            for name, ledger in (("seen", several), ("due", alone))
        )
        assert seen == due
    page = _page(write_report(several, str(tmp_path / "report")))
    assert "panoptic segmentation by" in page
    assert "also holds semantic and instance labels" in page
    assert "<dt>Task</dt><dd>semantic, instance, panoptic</dd>" in re.sub("</?bdi>", "", page)


def test_same_dataset_same_bytes_whatever_the_threads(make_dataset, tmp_path):
    ledger = make_dataset(count=9)
    for name, threads in (("a", 1), ("b", 4)):
        write_report(ledger, str(tmp_path / name), threads=threads)
    assert _files(tmp_path / "a") == _files(tmp_path / "b")


def test_full_file_holds_the_ledger_s_masks(make_dataset, tmp_path):
    ledger = make_dataset(count=2)
    write_report(ledger, str(tmp_path / "report"))
    text = (tmp_path / "report" / "full" / "1.js").read_text(encoding="utf-8")
    full = json.loads(text.removeprefix('maskmillLoad("full/1",').removesuffix(");\n"))
    assert full["size"] == [60, 80]
    assert full["picture"] is True
    _, segments = next(ledger.rows())
    expected = {
        row["segment_id"]: (row["area"], row["bbox_xywh"], row["rle"]["counts"]) for row in segments
    }
    assert {item[0]: (item[3], item[4], item[5]) for item in full["segments"]} == expected
    areas = [item[3] for item in full["segments"]]
    assert areas == sorted(areas, reverse=True)  # what lies on top is drawn last


def test_thumbnail_is_the_picture(make_dataset, tmp_path):
    page = _page(write_report(make_dataset(count=1), str(tmp_path / "report")))
    thumb = _data(page, "thumbs-0")[0]
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(thumb["jpeg"]), np.uint8), 1)
    original = cv2.imread(str(tmp_path / "input" / "plate-0" / "field 000.png"))
    assert pixels is not None
    assert original is not None
    assert pixels.shape == original.shape
    assert np.abs(pixels.astype(int) - original).mean() < 6


def test_works_when_the_input_is_gone(make_dataset, tmp_path):
    ledger = make_dataset(count=4)
    shutil.rmtree(tmp_path / "input")
    page = _page(write_report(ledger, str(tmp_path / "report")))
    assert "The input is no longer there" in page
    assert "plain ground" in page
    assert not list((tmp_path / "report").rglob("*.jpg"))
    assert len(_data(page, "thumbs-0")) == 4


def test_says_how_many_pictures_are_gone(make_dataset, tmp_path):
    ledger = make_dataset(count=4)
    (tmp_path / "input" / "plate-0" / "field 001.png").unlink()
    (tmp_path / "input" / "plate-0" / "field 002.png").write_bytes(b"no picture")
    page = _page(write_report(ledger, str(tmp_path / "report")))
    assert "2 pictures are gone" in page


def test_thumbnails_beyond_the_budget_go_into_side_files(make_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "EMBED_BYTES", 30_000)
    ledger = make_dataset(count=3 * write.CHUNK - 2)
    page = _page(write_report(ledger, str(tmp_path / "report")))
    data = _data(page)
    side = sorted(name for name in _files(tmp_path / "report") if name.startswith("data/"))
    assert data["embedded"] + len(side) == 3
    assert data["embedded"] >= 1
    assert side[-1] == "data/thumbs-0002.js"
    text = (tmp_path / "report" / side[-1]).read_text(encoding="utf-8")
    assert text.startswith('maskmillLoad("thumbs/2",')


def test_a_smaller_report_leaves_nothing_of_a_larger_one_behind(make_dataset, tmp_path):
    ledger = make_dataset(count=8)
    out = tmp_path / "report"
    write_report(ledger, str(out))
    (out / "full" / "notes.txt").write_text("not ours")
    write_report(ledger, str(out), max_images=2)
    (tmp_path / "fresh").mkdir()
    write_report(ledger, str(tmp_path / "fresh"), max_images=2)
    left = _files(out)
    assert left.pop("full/notes.txt") == b"not ours"
    assert left == _files(tmp_path / "fresh")


def test_pictures_that_the_report_before_had_stay_where_they_are(make_dataset, tmp_path):
    ledger = make_dataset(count=4, failed=0)
    out = tmp_path / "report"

    def places() -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in (out / "full").iterdir()}

    write_report(ledger, str(out))
    before = places()
    changed = min(before)
    (out / "full" / changed).write_bytes(b"another picture")
    write_report(ledger, str(out))
    after = places()
    assert len(after) == 8
    assert {name for name, place in after.items() if before[name] != place} == {changed}


def test_evaluation_beside_the_report_is_shown(make_dataset, tmp_path):
    ledger = make_dataset(count=2)
    out = Path(ledger.uri) / "report"
    out.mkdir()
    (out / "evaluation.json").write_text(json.dumps({"overall": {"pq": 0.625}}))
    assert "0.6250" in _page(write_report(ledger, str(out)))
    (out / "evaluation.json").write_text("not json")
    assert 'id="evaluation"' not in _page(write_report(ledger, str(out)))


@pytest.mark.parametrize("count", [0, 3])
def test_small_and_empty_datasets(make_dataset, tmp_path, count):
    page = _page(write_report(make_dataset(count=count, failed=0), str(tmp_path / "report")))
    assert len(_data(page)["rows"]) == count
    assert 'id="failures"' not in page


def test_names_and_messages_never_become_markup(make_dataset, tmp_path):
    page = _page(
        write_report(make_dataset(count=1, nasty=True, failed=2), str(tmp_path / "report"))
    )
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    assert "onclick=alert(3) &amp;.png" not in page
    assert page.count("</script>") == page.count("<script")
    assert "&lt;/script&gt;&lt;b&gt;" in page


def test_unwritable_output_is_one_line(make_dataset, tmp_path):
    ledger = make_dataset(count=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        write_report(ledger, str(tmp_path / "file" / "report"))
    assert "\n" not in str(caught.value)
