"""What is wrong with copies is found; datasets older than copies pass."""

import pyarrow as pa
import pytest

from pipeline.storage.storage import Storage
from pipeline.validation.copies import CopyCheck
from pipeline.validation.findings import Findings
from schemas.tables import ANNOTATIONS, IMAGES, schema_of

PARENT = {
    "image_id": 1,
    "file_name": "a.png",
    "status": "ok",
    "num_segments": 1,
    "fingerprint": "f",
    "split": "train",
}
COPY = {
    **PARENT,
    "image_id": 2,
    "file_name": "augmented/02/00000002-ab.png",
    "size_bytes": 4,
    "parent_image_id": 1,
    "augmentation": "{}",
}


def segment(image_id, visible):
    return {"annotation_id": image_id << 21 | 1, "image_id": image_id, "visible_fraction": visible}


def broken(tmp_path, parent=PARENT, copy=COPY, segments=None):
    file = tmp_path / str(COPY["file_name"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"1234")
    images = pa.Table.from_pylist([parent, copy], schema=IMAGES)
    rows = segments or [segment(1, None), segment(2, 0.5)]
    findings = Findings()
    annotations = pa.Table.from_pylist(rows, schema=ANNOTATIONS)
    CopyCheck(Storage(), str(tmp_path)).check(images, annotations, findings)
    return {item.rule: item.examples for item in findings.violations()}


def test_a_sound_pair_passes(tmp_path):
    assert broken(tmp_path) == {}


@pytest.mark.parametrize(
    ("parent", "copy", "rule"),
    [
        ({}, {"parent_image_id": 7}, "copy-parent"),
        ({"split": "val"}, {}, "copy-parent"),
        ({"status": "failed"}, {}, "copy-parent"),
        ({"parent_image_id": 2}, {}, "copy-parent"),
        ({}, {"size_bytes": 5}, "copy-file"),
        ({}, {"file_name": "augmented/02/gone.png"}, "copy-file"),
        ({"split": "dev"}, {"split": "dev"}, "image-split"),
    ],
)
def test_each_rule_is_held(tmp_path, parent, copy, rule):
    found = broken(tmp_path, {**PARENT, **parent}, {**COPY, **copy})
    assert rule in found


def test_visible_fractions_belong_to_copies_and_are_shares(tmp_path):
    for segments in (
        [segment(1, 0.5), segment(2, 0.5)],
        [segment(1, None), segment(2, None)],
        [segment(1, None), segment(2, 1.5)],
    ):
        assert set(broken(tmp_path, segments=segments)) == {"copy-visible"}


def test_older_schema_versions_have_no_copies(tmp_path):
    images = pa.Table.from_pylist([PARENT], schema=schema_of("images", 2))
    annotations = pa.Table.from_pylist([], schema=schema_of("annotations", 2))
    findings = Findings()
    CopyCheck(Storage(), str(tmp_path)).check(images, annotations, findings)
    assert findings.violations() == ()
