import json

import numpy as np
import pyarrow as pa
import pytest

from pipeline.ledger.ledger import open_ledger, write_dataset
from pipeline.masks import codec
from pipeline.review.selection import (
    FILE,
    Candidate,
    candidates,
    choose_candidates,
    read_given,
    write_selection,
)
from pipeline.review.trust import picture_trust, segment_trust
from pipeline.storage.storage import Storage
from pipeline.validation.validate import validate
from schemas.categories import Categories, Category
from schemas.records import ImageRecord, Segment, Segmentation

TABLE = Categories((Category(1, "cell", True, "#ff0000"), Category(2, "debris", True, "#00ff00")))


def square(x, score, category=1):
    mask = np.zeros((30, 40), np.uint8)
    mask[5:15, x : x + 10] = 1
    counts = codec.encode(mask)
    return Segment(category, counts, 100, codec.bbox_xywh(counts, 30, 40), score)


def dataset(folder, images):
    rows = [
        (ImageRecord(name, name, image_id=number), Segmentation(30, 40, tuple(found)))
        for number, (name, found) in enumerate(images.items(), start=1)
    ]
    write_dataset(str(folder), rows, categories=TABLE, task="instance", shard_size=3)
    return open_ledger(str(folder))


def test_trust_is_the_geometric_mean_of_what_is_known():
    table = pa.table(
        {
            "score": pa.array([0.81, None, None, 0.5], pa.float32()),
            "tta_agreement": pa.array([None, 0.25, None, 0.0], pa.float32()),
        }
    )
    trust = segment_trust(table, [np.array([0.49, np.nan, np.nan, 0.5])])
    assert trust[0] == pytest.approx((0.81 * 0.49) ** 0.5)
    assert trust[1] == pytest.approx(0.25)
    assert np.isnan(trust[2])
    assert trust[3] < 0.01


def test_a_pictures_trust_is_that_of_its_lower_fifth():
    values = np.array([0.9] * 8 + [0.1, 0.3, np.nan])
    assert picture_trust(values) == pytest.approx(0.2)
    assert picture_trust(np.array([0.7])) == pytest.approx(0.7)
    assert picture_trust(np.array([np.nan])) is None


def test_another_dataset_lowers_the_trust_in_what_it_sees_otherwise(tmp_path):
    seen = {"a.png": [square(2, 0.9)], "b.png": [square(2, 0.9)], "c.png": [square(2, 0.9)]}
    other = {"a.png": [square(2, 0.5)], "b.png": [square(7, 0.5)], "c.png": [square(2, 0.5, 2)]}
    ledger = dataset(tmp_path / "one", seen)
    alone = {item.file_name: item.trust for item in candidates(ledger)}
    assert list(alone.values()) == pytest.approx([0.9] * 3)
    both = {
        item.file_name: item.trust
        for item in candidates(ledger, [dataset(tmp_path / "two", other)])
    }
    assert both["a.png"] == pytest.approx(0.9**0.5)
    assert both["b.png"] == pytest.approx((0.9 / 3) ** 0.5)
    assert both["c.png"] < 0.01


def made(count):
    return [
        Candidate(n, f"{n}.png", "", None if n % 7 == 0 else n / count, n) for n in range(count)
    ]


def test_chooses_the_least_trusted_and_some_by_chance():
    chosen = choose_candidates(made(100), worst="5%", random="3", seed=0)
    assert [item.image_id for item, why in chosen if why == "worst"] == [1, 2, 3, 4, 5]
    by_chance = [item.image_id for item, why in chosen if why == "random"]
    assert len(set(by_chance) - {1, 2, 3, 4, 5}) == 3
    assert choose_candidates(made(100), worst="5%", random="3", seed=0) == chosen
    assert choose_candidates(made(100), worst="0", random="3", seed=1) != choose_candidates(
        made(100), worst="0", random="3", seed=2
    )
    assert any(
        item.trust is None
        for item, _ in choose_candidates(made(100), worst="0", random="50%", seed=0)
    )


@pytest.mark.parametrize("text", ["x", "-1", "120%", "5.5", ""])
def test_a_share_that_is_none_is_named(text):
    with pytest.raises(ValueError, match="--worst wants a share like 5%"):
        choose_candidates(made(5), worst=text, random="0", seed=0)


def test_a_selection_is_a_valid_dataset_of_its_own(tmp_path):
    images = {f"{n}.png": [square(2, n / 10), square(20, 0.9)] for n in range(1, 9)}
    ledger = dataset(tmp_path / "out", images)
    chosen = choose_candidates(list(candidates(ledger)), worst="2", random="1", seed=0)
    small = write_selection(ledger, chosen, str(tmp_path / "review"), Storage())
    rows = {image["file_name"]: segments for image, segments in small.rows()}
    whole = {image["file_name"]: segments for image, segments in ledger.rows()}
    assert {"1.png", "2.png"} < set(rows)
    assert len(rows) == 3
    for name, segments in rows.items():
        assert segments == whole[name]
    assert validate(small.uri).ok
    listed = json.loads((tmp_path / "review" / FILE).read_text())["images"]
    assert [item["chosen"] for item in listed] == ["worst", "worst", "random"]
    assert set(read_given(str(tmp_path / "review" / FILE), Storage())) == set(rows)
    with pytest.raises(ValueError, match="no picture is left"):
        write_selection(ledger, [], str(tmp_path / "none"), Storage())
