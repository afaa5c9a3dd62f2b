"""The site: its reference is what the programs say, it names every document, and it builds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from source_tree import ROOT

from docs.chart import CHART, drawn, rates
from docs.generate import REFERENCE, cell, pages
from maskmill.command import COMMANDS
from schemas.config.job import JobConfig
from schemas.config.keys import keys_of

DOCS = ROOT / "docs"
PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_up_to_date(name):
    there = (REFERENCE / name).read_text(encoding="utf-8")
    assert there == PAGES[name], "run: python -m docs.generate"


def test_the_chart_shows_every_row_of_the_table():
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| .*× \|$", page.partition("\nWhole runs")[0], re.MULTILINE)
    assert len(rates(page)) == len(table) > 5
    assert CHART.read_text(encoding="utf-8") == drawn(), "run: python -m docs.generate"


def test_the_reference_has_every_command_key_and_name():
    assert {path.name for path in REFERENCE.iterdir()} == set(PAGES)
    jobs = {name for name, (module, _) in COMMANDS.items() if _is_file(module)}
    assert set(re.findall(r"^\| \[`(\w+)`\]\(#\w+\)", PAGES["cli.md"], re.MULTILINE)) == jobs
    keys = set(re.findall(r"^\| `([\w.]+)`", PAGES["config.md"], re.MULTILINE))
    assert {key.name for key in keys_of(JobConfig)} <= keys
    for name in ("label", "open", "load", "Dataset", "Model"):
        assert f"\n## maskmill.{name}\n" in PAGES["python.md"]


def _is_file(module: str) -> bool:
    return (ROOT / f"{module.replace('.', '/')}.py").is_file()


def test_a_table_s_cell_is_one_line_without_bars():
    assert cell("a | b\n  <c>") == "a \\| b &lt;c>"


def nav_files(item: object) -> list[str]:
    if isinstance(item, dict):
        return [name for value in item.values() for name in nav_files(value)]
    if isinstance(item, list):
        return [name for value in item for name in nav_files(value)]
    return [str(item)]


def test_the_navigation_names_every_document_once():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    there = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    assert sorted(nav_files(config["nav"])) == there


def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path):
    """Strict: a link or an anchor that leads nowhere stops the build."""
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "build" / "site"
    assert not list(site.rglob("*.py"))
    shown = list(site.rglob("*.html"))
    assert len(shown) > len(list(DOCS.rglob("*.md")))  # and the page for what is not there
    loads = re.compile(r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
    for page in shown:
        assert not loads.findall(page.read_text(encoding="utf-8")), page.name
