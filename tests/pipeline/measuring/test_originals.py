import logging

import numpy as np
import pytest
import tifffile
from picture_datasets import picture_dataset, scene, with_hashes

from pipeline.images import large
from pipeline.images.large import SlidePixels
from pipeline.ledger.ledger import Ledger
from pipeline.measuring.originals import Originals, look_at
from pipeline.measuring.units import parse_pixel_size
from pipeline.readers import relisting
from schemas.config.job import ImagesConfig
from schemas.records import ImageRecord

NAMES = [f"{n}.png" for n in range(6)]


@pytest.fixture
def ledger(tmp_path):
    return picture_dataset(tmp_path, {name: scene(1) for name in NAMES}, broken=())


def look(ledger, name, record="find", pixel_size="none", intensity=True):
    originals = Originals(ledger)
    row = next(
        row for table in ledger.images() for row in table.to_pylist() if row["file_name"] == name
    )
    return look_at(
        row,
        originals.reader,
        originals.find([name]).get(name) if record == "find" else record,
        intensity=intensity,
        choice=parse_pixel_size(pixel_size),
        images=ImagesConfig(),
    )


def test_pictures_are_found_part_by_part(ledger):
    originals = Originals(ledger)
    for part in (NAMES[:2], NAMES[2:4], NAMES[4:]):
        assert list(originals.find(part)) == part


def test_files_that_came_or_went_disturb_no_other(ledger, tmp_path):
    (tmp_path / "input" / "2.png").unlink()
    for name in ("00.png", "1b.png", "9.png"):
        (tmp_path / "input" / name).write_bytes(b"x")
    originals = Originals(ledger)
    found = [name for part in (NAMES[:3], NAMES[3:]) for name in originals.find(part)]
    assert found == [name for name in NAMES if name != "2.png"]


def test_what_is_kept_of_the_listing_is_bounded(ledger, tmp_path, monkeypatch):
    monkeypatch.setattr(relisting, "_AHEAD", 3)
    for number in range(40):
        (tmp_path / "input" / f"0 new {number:02d}.png").write_bytes(b"x")
    originals = Originals(ledger)
    for _ in range(60):
        originals.find(["gone.png"])
        assert len(originals._ahead) <= 3


def test_an_input_that_is_gone_is_said_once(tmp_path, caplog):
    ledger = picture_dataset(tmp_path, {"a.png": scene(1)}, broken=())
    (tmp_path / "input").rename(tmp_path / "elsewhere")
    with caplog.at_level(logging.WARNING):
        assert Originals(ledger).find(["a.png"]) == {}
    assert "not found again" in caplog.text
    bare = Ledger(ledger.uri, ledger.manifest, ledger.storage)
    object.__setattr__(bare.manifest, "config", {})
    assert Originals(bare).find(["a.png"]) == {}
    assert look(bare, "a.png").note == "the picture is gone"


def test_values_are_those_of_the_file(tmp_path):
    deep, labels = scene(1, "uint16")
    many = np.stack([deep] * 5, axis=2)
    grey = scene(2)[0][..., 0]
    ledger = picture_dataset(
        tmp_path,
        {"deep.tif": (deep, labels), "grey.png": (grey, labels), "many.tif": (many, labels)},
        broken=(),
    )
    assert (look(ledger, "deep.tif").values[..., 0] == deep).all()
    assert look(ledger, "grey.png").bands == 1
    assert (look(ledger, "grey.png").values[..., 0] == grey).all()
    assert (look(ledger, "many.tif").values == many).all()


def test_a_changed_picture_is_not_measured(ledger, tmp_path):
    with_hashes(ledger)
    assert look(ledger, "1.png").note == ""
    path = tmp_path / "input" / "1.png"
    path.write_bytes(path.read_bytes() + b"\n")
    assert look(ledger, "1.png").note == "the picture has changed since it was labelled"


def test_pictures_that_cannot_be_used_are_noted(ledger, tmp_path):
    (tmp_path / "input" / "0.png").write_bytes(b"")
    assert "0 bytes" in look(ledger, "0.png").note
    picture_dataset(tmp_path / "other", {"1.png": (scene(1)[0][:20], scene(1)[1])}, broken=())
    (tmp_path / "other" / "input" / "1.png").rename(tmp_path / "input" / "1.png")
    assert "another size" in look(ledger, "1.png").note
    nowhere = ImageRecord("2.png", str(tmp_path / "nowhere.png"), image_id=1)
    assert look(ledger, "2.png", nowhere).note == "the picture cannot be read"


def test_nothing_is_read_that_is_not_wanted(ledger):
    seen = look(ledger, "0.png", record=None, pixel_size="2 um", intensity=False)
    assert (seen.values, seen.note) == (None, "")
    assert seen.pixel_size.um == 2


def test_a_slide_is_not_decoded_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(large, "LARGE", 1)
    pixels, labels = scene(1)
    ledger = picture_dataset(tmp_path, {"a.png": (pixels, labels)}, broken=())
    tifffile.imwrite(tmp_path / "input/a.tif", pixels, photometric="rgb", tile=(16, 16))
    record = ImageRecord("a.tif", str(tmp_path / "input/a.tif"))
    row = {"sha256": None, "height": pixels.shape[0], "width": pixels.shape[1]}
    reader = Originals(ledger).reader
    seen = look_at(
        row,
        reader,
        record,
        intensity=True,
        choice=parse_pixel_size("none"),
        images=ImagesConfig(),
    )
    assert isinstance(seen.values, SlidePixels)
    assert seen.bands is None
    np.testing.assert_array_equal(np.asarray(seen.values), pixels)
