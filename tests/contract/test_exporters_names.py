"""Names of categories as people write them come back from every format."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from xml.etree import ElementTree

import format_readers
import numpy as np
import pytest
import yaml
from small_datasets import BACKGROUND, NUCLEUS, SKY, small_dataset

from pipeline.exporters import EXPORTERS, export
from pipeline.exporters.table import make_exporter
from pipeline.ledger.ledger import write_dataset
from schemas.categories import Categories, Category
from schemas.records import ImageRecord, Segmentation

ODD = Categories(
    (
        replace(NUCLEUS, name="one, \"two\"\n\t'three' <b>&amp; \\ | 😀 #"),
        replace(SKY, name="007"),
        replace(BACKGROUND, name=" null "),
    )
)
NAMED = [name for name in EXPORTERS if make_exporter(name).traits.masks != "mapped"]


@pytest.mark.parametrize("name", NAMED)
def test_any_name_of_a_category_comes_back(name, tmp_path, monkeypatch):
    task = "panoptic" if "panoptic" in make_exporter(name).tasks else "instance"
    carried = make_exporter(name).traits.pictures
    found = []
    for place, table in (("odd", ODD), ("plain", format_readers.CATEGORIES)):
        folder = tmp_path / place
        ledger = small_dataset(folder / "data", task, pictures=carried, categories=table)
        export(ledger, name, str(folder / "out"))
        monkeypatch.setattr(format_readers, "CATEGORIES", table)
        found.append(format_readers.READ_BACK[name](folder / "out"))
    odd, plain = found
    assert odd.images == plain.images
    assert odd.unions.keys() == plain.unions.keys()
    for key, mask in plain.unions.items():
        assert np.array_equal(odd.unions[key], mask), key


UNPRINTABLE = Categories(
    tuple(
        Category(number, f"a{sign}b", True, "#336699")
        for number, sign in enumerate(("\x07", "\x1b", "\x7f", "\x85", "\u2028", "\ufeff", "\r"), 1)
    )
)


def test_what_xml_has_no_sign_for_is_replaced_and_yaml_s_is_escaped(tmp_path):
    images = [(ImageRecord("a\x01.png", "", image_id=1), Segmentation(4, 6))]
    ledger = write_dataset(
        str(tmp_path / "d"), images, categories=UNPRINTABLE, task="instance", shard_size=1
    )
    for name in ("cvat", "label-studio"):
        export(ledger, name, str(tmp_path / name))
    due = [item.name.replace("\x07", "�").replace("\x1b", "�") for item in UNPRINTABLE]
    with zipfile.ZipFile(tmp_path / "cvat" / "annotations.zip") as archive:
        root = ElementTree.fromstring(archive.read("annotations.xml"))
    assert [item.findtext("name") for item in root.iter("label")] == due
    assert [item.get("name") for item in root.iter("image")] == ["a�.png"]
    config = ElementTree.parse(tmp_path / "label-studio" / "label_config.xml")
    assert [item.get("value") for item in config.iter("Label")] == due
    (task,) = json.loads((tmp_path / "label-studio" / "tasks.json").read_bytes())
    assert task["data"]["file_name"] == "a\x01.png"
    none = write_dataset(str(tmp_path / "none"), [], categories=UNPRINTABLE, task="instance")
    export(none, "yolo-seg", str(tmp_path / "yolo"))
    data = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text("utf-8"))
    assert [*data["names"].values()] == [item.name for item in UNPRINTABLE]
    stuff = Categories((SKY,))
    none = write_dataset(str(tmp_path / "stuff"), [], categories=stuff, task="panoptic")
    export(none, "yolo-seg", str(tmp_path / "no-things"))
    text = (tmp_path / "no-things" / "data.yaml").read_text("utf-8")
    assert yaml.safe_load(text)["names"] == {}
