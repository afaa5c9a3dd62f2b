"""The notebook's cells, run one after the other in a process of their own, show what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from source_tree import ROOT

NOTEBOOK = json.loads((ROOT / "examples" / "first_steps.ipynb").read_text(encoding="utf-8"))
CELLS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]

# What a notebook does: statements run, and a last line that is a value is shown.
SHOW_CELLS = """
import ast, json, shutil, sys
scope, shown = {}, []
for number, source in enumerate(json.load(sys.stdin)):
    body = ast.parse(source).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), f"cell {number}", "exec"), scope)
    value = last and eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), scope)
    look = getattr(value, "_repr_html_", None)
    shown.append([repr(value), look() if look else ""])
shutil.rmtree(scope["folder"])
json.dump(shown, sys.stdout)
"""


def test_the_notebook_is_stored_without_outputs():
    assert NOTEBOOK["nbformat"] == 4
    assert all(not cell.get("outputs") for cell in NOTEBOOK["cells"])


def test_every_cell_runs_and_shows_what_was_labelled(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", SHOW_CELLS],
        input=json.dumps(CELLS),
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = dict(zip(CELLS, json.loads(done.stdout), strict=True))

    def of(end: str) -> list[str]:
        return next(look for source, look in shown.items() if source.endswith(end))

    assert "5 images, 16 annotations, 0 failed" in of("\nds")[0]
    assert of("\nds")[1].count("<img") == 5
    rows = of('"num_segments"]]')[0]
    assert rows.count("ok") == 4
    assert rows.count("empty") == 1
    assert of("masks.sum(axis=(1, 2))")[0].startswith("((4, 160, 240), array([")
    assert "PIL.Image" in of('ds.show("discs-1.png")')[0]
    assert "instances_polygons.json" in of('"coco"))')[0]
    assert of("answer.masks.shape")[0].startswith("(4, [")
    assert of("again.version")[0] == "(0, 1)"
