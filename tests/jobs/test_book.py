import json
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs import book
from jobs.models import app
from pipeline.models.checkpoints.families import FAMILIES

FOLDER = Path(book.__file__).parent / "families"
ABOUT = tomllib.loads((FOLDER / "families.toml").read_text("utf-8"))


class Reader(HTMLParser):
    """The tags of a page, its texts, and which tags are open."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in ("rect", "circle", "path"):
            return
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    file = tmp_path_factory.mktemp("book") / "models.html"
    done = CliRunner().invoke(app, ["--book", str(file)])
    assert done.exit_code == 0, done.output
    reader = Reader()
    reader.feed(file.read_text("utf-8"))
    assert reader.open == []
    return reader


def test_every_family_has_a_card_with_licence_and_names(page):
    assert set(ABOUT) == set(FAMILIES)
    cards = {attrs["id"] for tag, attrs in page.tags if tag == "article"}
    assert cards == set(FAMILIES)
    listed = json.loads(CliRunner().invoke(app, ["--json"]).stdout)
    for row in listed:
        assert row["name"] in page.text
        assert row["licence"] in page.text


def test_a_picture_or_a_drawing_that_says_so(page):
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    drawings = [attrs for tag, attrs in page.tags if tag == "svg"]
    shown = {name for name, about in ABOUT.items() if "picture" in about}
    assert (len(pictures), len(drawings)) == (len(shown), len(FAMILIES) - len(shown))
    assert all(attrs["src"].startswith("data:image/webp;base64,") for attrs in pictures)
    assert all(attrs["aria-label"].startswith("Drawing: ") for attrs in drawings)
    files = {path.name for path in FOLDER.glob("*.webp")}
    assert files == {ABOUT[name]["picture"] for name in shown}


def test_speeds_stand_where_they_were_measured():
    results = (Path(__file__).parents[2] / "bench" / "RESULTS.md").read_text("utf-8")
    for name, number in (
        *(("mask2former", "304.8"), ("oneformer", "132.7"), ("eomt", "304.6")),
        *(("semantic", "515.0"), ("maskrcnn", "509.2"), ("grounding-dino", "86.4")),
        *(("unet", "1597"), ("owlv2", "338.2"), ("otsu", "648")),
    ):
        assert number in results
        assert str(round(float(number))) in ABOUT[name]["speed"]
