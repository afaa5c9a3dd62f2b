from __future__ import annotations

import pytest

from pipeline.report.survey import ANNOTATION_COLUMNS, IMAGE_COLUMNS, Tally


@pytest.fixture
def tally(make_dataset) -> Tally:
    ledger = make_dataset(count=12)
    counted = Tally(ledger.categories)
    for images, segments in zip(
        ledger.images(IMAGE_COLUMNS), ledger.annotations(ANNOTATION_COLUMNS), strict=True
    ):
        counted.add(images, segments)
    return counted


def test_counts_agree_with_the_manifest(tally, make_dataset):
    manifest = make_dataset(count=12).manifest
    for key, count in manifest.category_counts.items():
        assert tally.category(int(key))["segments"] == count


def test_images_and_means_of_a_category(tally):
    cell, debris = tally.category(1), tally.category(5)
    assert (cell["segments"], cell["images"]) == (16, 8)  # every third image is empty
    assert (debris["segments"], debris["images"]) == (8, 8)
    assert cell["score"]["mean"] == pytest.approx((0.7 + 0.9) / 2)
    assert debris["score"] is None
    assert debris["area"] == {"count": 8, "low": 168, "mean": 168, "high": 168}


def test_background_is_in_no_histogram_and_empty_images_are(tally):
    histograms = tally.histograms()
    assert histograms["area"]["spread"]["count"] == 24
    assert histograms["score"]["spread"]["count"] == 16
    assert tally.unscored == 8
    assert histograms["objects"]["spread"] == {"count": 12, "low": 0, "mean": 2, "high": 3}
