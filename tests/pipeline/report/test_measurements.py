"""The section about measurements, out of the browser and in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, Page

from pipeline.measuring.measure import measure
from pipeline.report import write_report
from pipeline.report.measurements import measured_for, measurements_section

READY = "document.documentElement?.dataset.ready"


@pytest.fixture
def measured(make_dataset, tmp_path):
    """A dataset of two categories, and the summary of what was measured in it."""
    ledger = make_dataset(count=6)
    return ledger, measure(dataset=ledger.uri, output=str(tmp_path / "o.parquet"))


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with Page(browser) as tab:
        yield tab


@pytest.mark.parametrize("nothing", [None, {}, [], 3, "text", {"measurements_version": 99}])
def test_nothing_measured_no_section(nothing):
    assert measured_for(nothing, "panoptic") is None
    assert measurements_section(None, version=1) == ""


def test_means_and_places_for_the_histograms(measured):
    ledger, summary = measured
    shown = measured_for(summary, "panoptic")
    section = measurements_section(shown, version=ledger.manifest.version)
    assert section.count("<figure") == 7
    assert section.count("<option") == 3  # all, cell, debris; background is none
    assert section.count("<tr>") == 4
    assert "notice" not in section
    mean = summary["categories"][1]["distributions"]["area"]["spread"]["mean"]
    assert f'<td class="num">{mean:.1f}</td>' in section
    assert measured_for(summary, "instance") is None


def test_one_category_is_shown_once(measured):
    _, summary = measured
    alone = {**summary, "categories": summary["categories"][:2]}
    assert [row["name"] for row in measured_for(alone, "panoptic")["categories"]] == ["cell"]


def test_what_the_reader_must_know_is_said(measured):
    _, summary = measured
    noted = {**summary, "notes": {"the picture is <gone>": 1234}}
    section = measurements_section(measured_for(noted, "panoptic"), version=7)
    assert "Measured on version 2 of the dataset; this is 7." in section
    assert "1,234 images without intensities: the picture is &lt;gone&gt;." in section


def test_names_are_escaped(measured):
    _, summary = measured
    text = json.dumps(summary).replace('"debris"', '"</select><script>"')
    section = measurements_section(measured_for(json.loads(text), "panoptic"), version=2)
    assert "<script>" not in section


def test_the_histograms_follow_the_category(page, measured, tmp_path):
    ledger, summary = measured
    folder = tmp_path / "dataset" / "report"
    page.open(Path(write_report(ledger, str(folder))).as_uri(), ready=READY)
    drawn = "[...document.querySelectorAll('#measurements .chart svg')].length"
    assert page.run(drawn) == 7
    note = "document.querySelector('#measurements [data-property=area] .chart-note').textContent"
    choose = (
        "(() => {{ const s = document.querySelector('#measurements select'); s.value = '{}';"
        " s.dispatchEvent(new Event('change')); }})()"
    )
    for place, row in enumerate(summary["categories"]):
        page.run(choose.format(place))
        low = row["distributions"]["area"]["spread"]["low"]
        assert f" {low:g} to " in page.run(note)
    assert page.run("document.querySelector('nav a[href=\"#measurements\"]') !== null")
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.errors == []
    page.resize(360, 740, scale=2, mobile=True)
    assert page.run("document.documentElement.scrollWidth") <= 360


def test_a_report_elsewhere_finds_the_measurements_too(measured, tmp_path):
    ledger, _ = measured
    index = write_report(ledger, str(tmp_path / "elsewhere"))
    assert '<section id="measurements"' in Path(index).read_text("utf-8")
    (Path(ledger.uri) / "report" / "measurements.json").write_text("{ damaged")
    index = write_report(ledger, str(tmp_path / "elsewhere"))
    assert '<section id="measurements"' not in Path(index).read_text("utf-8")
