"""The report in a real browser: what a reader sees and does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from browser import Browser, Page

from pipeline.ledger.ledger import write_dataset
from pipeline.masks import codec
from pipeline.report import write_report
from schemas.categories import Categories, Category
from schemas.records import ImageRecord, Segment, Segmentation

READY = "document.documentElement?.dataset.ready"
CARDS = "document.querySelectorAll('#grid .card').length"
PAINTED = "[...document.querySelectorAll('#grid canvas')].length"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with Page(browser, height=3000) as tab:  # tall: cards out of sight are not painted
        yield tab


def _choose(page: Page, selector: str, value: str) -> None:
    page.run(
        f"(() => {{ const node = document.querySelector({selector!r}); node.value = {value!r};"
        " for (const kind of ['input', 'change'])"
        " node.dispatchEvent(new Event(kind, {bubbles: true})); })()"
    )


def _click(page: Page, selector: str) -> None:
    page.run(f"document.querySelector({selector!r}).click()")


def _open_first(page: Page) -> None:
    _click(page, "#grid .card")
    page.wait("document.querySelectorAll('#viewer-segments button').length")


def test_opens_clean_with_a_card_a_picture(page, make_dataset, tmp_path):
    ledger = make_dataset(count=30, failed=3)
    page.open(Path(write_report(ledger, str(tmp_path / "r"), max_images=20)).as_uri(), ready=READY)
    page.wait(f"{PAINTED} === 20")
    assert page.run(CARDS) == 23
    assert page.run("document.querySelectorAll('.chart svg .bar-mark').length") > 0
    assert page.run("document.querySelector('#matches').textContent") == "1–23 of 23 pictures"
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.errors == []
    assert all(url.startswith("file:") for url in page.requests)


def test_filters(page, make_dataset, tmp_path):
    page.open(Path(write_report(make_dataset(), str(tmp_path / "r"))).as_uri(), ready=READY)
    assert page.run(CARDS) == 15
    for status, count in (("ok", 8), ("empty", 4), ("failed", 3), ("all", 15)):
        _click(page, f"#status [data-value='{status}']")
        assert page.run(CARDS) == count, status
    _choose(page, "#category", "5")
    assert page.run(CARDS) == 8
    _choose(page, "#score-low", "1")  # debris has no score
    assert page.run(CARDS) == 0
    _choose(page, "#category", "1")  # cells have 0.7 and 0.9
    assert page.run(CARDS) == 8
    _choose(page, "#score-high", "14")
    assert page.run(CARDS) == 0
    _choose(page, "#score-high", "15")
    assert page.run(CARDS) == 8
    _click(page, "#matches button")
    assert page.run(CARDS) == 15
    _choose(page, "#search", "PLATE-1/")
    assert page.run(CARDS) == 4
    _click(page, ".numbers a[data-status='failed']")
    assert page.run(CARDS) == 3
    _choose(page, "#sort", "most")
    assert "status=failed" in page.run("location.hash")
    assert page.errors == []


def test_a_bar_of_the_score_histogram_filters(page, make_dataset, tmp_path):
    page.open(Path(write_report(make_dataset(), str(tmp_path / "r"))).as_uri(), ready=READY)
    page.run("document.querySelector('#chart-score g.pick').dispatchEvent(new Event('click'))")
    assert page.run("document.querySelector('#score-value').textContent") == "0.70–0.75"
    assert page.run(CARDS) == 8


def test_pages(page, make_dataset, tmp_path):
    ledger = make_dataset(count=100, failed=0, shard_size=40)
    page.open(Path(write_report(ledger, str(tmp_path / "r"))).as_uri(), ready=READY)
    assert page.run(CARDS) == 48
    _click(page, "#pager button:last-child")
    _click(page, "#pager button:last-child")
    assert page.run(CARDS) == 4
    assert page.run("document.querySelector('#pager button:last-child').disabled") is True
    assert "page=3" in page.run("location.hash")


def test_masks_on_the_canvas_are_the_ledger_s(page, make_dataset, tmp_path):
    ledger = make_dataset(count=1)
    page.open(Path(write_report(ledger, str(tmp_path / "r"))).as_uri(), ready=READY)
    _open_first(page)
    page.wait("document.getElementById('viewer-picture').src.endsWith('full/1.jpg')")
    alpha = page.run(
        "(() => { const c = document.getElementById('viewer-masks');"
        " const zoom = c.width / 80; const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; const out = [];"
        " for (let y = 0.5; y < 60; y++) for (let x = 0.5; x < 80; x++)"
        " out.push(d[4 * (Math.floor(y * zoom) * c.width + Math.floor(x * zoom)) + 3]);"
        " return out; })()"
    )
    _, segments = next(ledger.rows())
    painted = np.zeros((60, 80), bool)
    for row in segments:
        if row["category_id"] != 9:
            painted |= codec.decode(row["rle"]["counts"], 60, 80) > 0
    assert (np.array(alpha).reshape(60, 80) > 0).tolist() == painted.tolist()


def test_viewer_keys_hover_and_zoom(page, make_dataset, tmp_path):
    page.open(Path(write_report(make_dataset(), str(tmp_path / "r"))).as_uri(), ready=READY)
    _open_first(page)
    first = page.run("document.querySelector('#viewer-name').textContent")
    page.press("ArrowRight")
    page.wait(f"document.querySelector('#viewer-name').textContent !== {first!r}")
    page.press("ArrowLeft")
    page.wait(f"document.querySelector('#viewer-name').textContent === {first!r}")
    page.wait("document.querySelectorAll('#viewer-segments button').length === 4")
    x, y = page.run(
        "(() => { const b = document.getElementById('canvas-box').getBoundingClientRect();"
        " return [b.left + b.width * 58 / 80, b.top + b.height * 24 / 60]; })()"
    )
    page.move(x, y)
    page.wait("!document.getElementById('tip').hidden")
    tip = page.run("document.getElementById('tip').textContent")
    assert tip.startswith("cell #2")
    assert "score 0.900" in tip
    scale = "document.getElementById('canvas-box').style.transform"
    before = page.run(scale)
    page.press("+")
    assert page.run(scale) != before
    page.press("0")
    assert page.run(scale) == before
    page.press("o")
    assert (
        page.run("document.querySelector('#overlay [aria-checked=true]').textContent") == "Outline"
    )
    page.press("Escape")
    page.wait("!document.getElementById('viewer').open")
    page.wait("document.activeElement.className === 'card'")
    assert page.errors == []


def test_names_are_inert(page, make_dataset, tmp_path):
    ledger = make_dataset(count=3, nasty=True, failed=2)
    page.open(Path(write_report(ledger, str(tmp_path / "r"))).as_uri(), ready=READY)
    page.wait(f"{PAINTED} === 8")
    names = page.run("[...document.querySelectorAll('.caption .name')].map((n) => n.textContent)")
    assert "<img src=x onerror=alert(1)>.png" in names
    assert "line\u2028end\u2029.png" in names
    for number in range(page.run(CARDS)):
        page.run(f"document.querySelectorAll('#grid .card')[{number}].click()")
        page.wait("document.getElementById('viewer').open")
        page.press("Escape")
        page.wait("!document.getElementById('viewer').open")
    assert page.run("document.querySelectorAll('main img:not(.thumb img)').length") == 0
    assert page.errors == []  # a dialog counts as one


def test_the_page_alone_still_shows_pictures_and_masks(page, make_dataset, tmp_path):
    index = write_report(make_dataset(), str(tmp_path / "r"))
    alone = tmp_path / "mail" / "report.html"
    alone.parent.mkdir()
    shutil.copy(index, alone)
    page.open(alone.as_uri(), ready=READY)
    page.wait(f"{PAINTED} === 12")
    _open_first(page)
    page.wait("!document.getElementById('viewer-note').hidden")
    assert "small picture" in page.run("document.getElementById('viewer-note').textContent")
    assert page.run("document.getElementById('viewer-picture').src.startsWith('data:image/jpeg')")
    assert page.run("document.getElementById('viewer-masks').width") > 0


def test_without_pictures_masks_stand_on_plain_ground(page, make_dataset, tmp_path):
    ledger = make_dataset(failed=0)
    shutil.rmtree(tmp_path / "input")
    page.open(Path(write_report(ledger, str(tmp_path / "r"))).as_uri(), ready=READY)
    page.wait(f"{PAINTED} === 12")
    _open_first(page)
    assert page.run("document.querySelectorAll('.thumb img').length") == 0
    assert page.run("document.getElementById('viewer-masks').width") > 0
    assert page.errors == []


def test_light_dark_and_the_button(page, make_dataset, tmp_path):
    index = Path(write_report(make_dataset(count=2), str(tmp_path / "r"))).as_uri()
    ground = "getComputedStyle(document.body).backgroundColor"
    seen = {}
    for scheme in ("light", "dark"):
        page.colours(scheme)
        page.open(index, ready=READY)
        seen[scheme] = page.run(ground)
    assert seen["light"] != seen["dark"]
    for expected in ("light", "dark", "dark"):  # light, dark, as the system
        _click(page, "#theme")
        assert page.run(ground) == seen[expected]


def test_fits_a_phone(page, make_dataset, tmp_path):
    page.resize(360, 740, scale=2, mobile=True)
    page.open(Path(write_report(make_dataset(), str(tmp_path / "r"))).as_uri(), ready=READY)
    assert page.run("document.documentElement.scrollWidth") <= 360
    _open_first(page)
    box = page.run(
        "(() => { const b = document.getElementById('viewer-close').getBoundingClientRect();"
        " return [b.left, b.right, b.top, b.bottom]; })()"
    )
    assert 0 <= box[0] < box[1] <= 360
    assert 0 <= box[2] < box[3] <= 740


def test_pictures_and_controls_have_names(page, make_dataset, tmp_path):
    page.open(Path(write_report(make_dataset(), str(tmp_path / "r"))).as_uri(), ready=READY)
    page.wait(f"{PAINTED} === 12")
    nameless = page.run(
        "[...document.querySelectorAll('button, input, select, [role=radiogroup]')].filter((n) =>"
        " !n.textContent.trim() && !n.getAttribute('aria-label') && !n.labels?.length)"
        ".map((n) => n.outerHTML)"
    )
    assert nameless == []
    # What a card is called is what it shows, and a word that only a screen reader gets.
    told = page.run("document.querySelector('#grid .card').textContent")
    assert told.startswith("field 000.png3 segmentsplate-0/score ≥ 0.")


def test_a_table_that_scrolls_is_reached_by_keys(page, make_dataset, tmp_path):
    ledger = make_dataset(count=1, failed=60)
    page.open(Path(write_report(ledger, str(tmp_path / "r"))).as_uri(), ready=READY)
    boxes = "[...document.querySelectorAll('#failures .table-box')]"
    page.run(f"{boxes}.forEach((box) => {{ box.parentElement.open = true; }})")
    page.wait(f"{boxes}.every((box) => box.tabIndex === 0)")
    assert page.run("document.querySelector('#categories').tabIndex") == -1


def test_a_legend_says_which_colour_is_which_category(page, make_dataset, tmp_path):
    page.open(Path(write_report(make_dataset(), str(tmp_path / "r"))).as_uri(), ready=READY)
    names = "[...document.querySelectorAll('#legend li')].map((n) => n.textContent)"
    assert page.run(names) == ["cell", "debris"]
    page.press("c")  # a colour an object: nothing to tell
    assert page.run("document.querySelector('#legend').hidden")
    page.press("c")
    _click(page, "#legend a[data-category]")
    assert page.run("document.querySelector('#category').value") == "1"


@pytest.mark.parametrize("width", [390, 1280])
def test_score_and_area_never_touch(browser, tmp_path, width):
    side = 700
    mask = np.zeros((side, side), np.uint8)
    mask[20:-20, 20:-20] = 1
    counts = codec.encode(mask)
    segment = Segment(1, counts, int(mask.sum()), (20, 20, side - 40, side - 40), 1.0)
    table = Categories((Category(1, "a category with a long name", True, "#4169e1"),))
    image = ImageRecord("disc.png", "", image_id=1), Segmentation(side, side, (segment,))
    ledger = write_dataset(str(tmp_path / "d"), [image], categories=table, task="instance")
    with Page(browser, width=width, height=900) as page:
        page.open(Path(write_report(ledger, str(tmp_path / "r"))).as_uri(), ready=READY)
        _open_first(page)
        (score, area, edge) = page.run(
            "(() => { const row = document.querySelector('#viewer-segments button');"
            " const box = (n) => { const r = n.getBoundingClientRect();"
            " return [r.left, r.right, n.scrollWidth - n.clientWidth, n.textContent]; };"
            " return [...[...row.querySelectorAll('.num')].map(box), box(row)]; })()"
        )
    assert (score[3], area[3]) == ("1.000", "435.6K px")
    assert area[0] - score[1] >= 8
    assert area[1] <= edge[1]
    assert score[2] <= 0
    assert area[2] <= 0


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Says nothing."""


def test_works_from_a_web_server_too(page, make_dataset, tmp_path):
    folder = Path(write_report(make_dataset(), str(tmp_path / "r"))).parent
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        page.open(f"http://127.0.0.1:{server.server_port}/index.html", ready=READY)
        _open_first(page)
        page.wait("document.getElementById('viewer-picture').src.endsWith('full/1.jpg')")
        server.shutdown()
    assert page.errors == []


def test_figures_are_put_in_order_and_lead_to_the_picture(page, make_dataset, tmp_path):
    ledger = make_dataset(count=8, failed=0)
    figures = {
        "per_category": [
            {"name": "b", "pq": {"pq": 0.5, "sq": None}},
            {"name": "C", "pq": {"pq": 0.125, "sq": 1.0}},
            {"name": "a", "pq": {"pq": None, "sq": 0.25}},
        ],
        "worst_images": [
            {"file_name": name, "pq": 0.5} for name in ("plate-1/field 005.png", "gone.png")
        ],
    }
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "evaluation.json").write_text(json.dumps(figures))
    page.open(Path(write_report(ledger, str(tmp_path / "r"))).as_uri(), ready=READY)

    def rows() -> str:
        return page.run(
            "[...document.querySelector('#evaluation .sortable').tBodies[0].rows]"
            ".map((row) => row.cells[0].textContent).join('')"
        )

    assert rows() == "bCa"
    for heading, expected in ((2, "bCa"), (2, "Cba"), (1, "abC"), (3, "Cab"), (3, "aCb")):
        _click(page, f"#evaluation .sortable th:nth-child({heading}) button")
        assert rows() == expected
    _click(page, "#evaluation a[data-open='plate-1/field 005.png']")
    page.wait("document.querySelector('#viewer').open")
    assert page.run("document.querySelector('#viewer-name').textContent") == "field 005.png"
    page.press("Escape")
    _click(page, "#evaluation a[data-open='gone.png']")
    assert page.run("document.querySelector('#search').value") == "gone.png"
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.errors == []
