"""How the house looks: folder and file names, lengths, no stray statements."""

from __future__ import annotations

import ast
import importlib.util
import statistics

from source_tree import OURS, ROOT, relative, sources, tree

BANNED_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}


def test_no_root_folder_hides_a_library():
    own = {*OURS, "tests", "bench", "docs", "examples", "demo", "out", "build", "dist"}
    for folder in ROOT.iterdir():
        if folder.is_dir() and not folder.name.startswith(".") and folder.name not in own:
            spec = importlib.util.find_spec(folder.name)
            installed = spec is not None and not str(spec.origin or "").startswith(str(ROOT))
            assert not installed, f"{folder.name}/ hides an installed library in every worker"
            raise AssertionError(f"{folder.name}/ is no top-level folder of this project")


def test_names_say_what_a_file_does():
    wrong = [
        relative(path)
        for path in sources(*OURS, "tests", "bench", "examples")
        if {*path.relative_to(ROOT).parent.parts, path.stem} & BANNED_NAMES
    ]
    assert not wrong, wrong


def test_init_files_hold_no_code_that_runs():
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.ClassDef, ast.FunctionDef)
    wrong = [
        f"{relative(path)}:{node.lineno}"
        for path in sources()
        if path.name == "__init__.py"
        for node in tree(path).body
        if not isinstance(node, allowed)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    assert not wrong, wrong


def test_no_print_and_no_assert_outside_the_jobs():
    wrong = []
    for path in sources("schemas", "pipeline"):
        speaks = relative(path) == "pipeline/engine/progress.py"  # what a job shows while it works
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Assert):
                wrong.append(f"{relative(path)}:{node.lineno} asserts")
            elif not speaks and isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                wrong.append(f"{relative(path)}:{node.lineno} prints")
    assert not wrong, "\n".join(wrong)


def test_files_stay_short():
    lengths = {relative(path): len(path.read_text("utf-8").splitlines()) for path in sources()}
    long = {name: length for name, length in lengths.items() if length > 400}
    assert not long, long
    assert statistics.median(lengths.values()) < 200
