"""Every benchmark can still be called: moves and renames elsewhere broke two of them unseen."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import ROOT

from bench import run_all

FILES = sorted((ROOT / "bench").glob("*.py"))


def test_each_imports_in_a_process_of_its_own_path() -> None:
    """Without the folders of test support that this process has on its path."""
    names = [f"bench.{path.stem}" for path in FILES]
    code = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def options_of(name: str) -> set[str]:
    """Words that a benchmark's source gives to `add_argument`."""
    tree = ast.parse((ROOT / "bench" / f"{name}.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {
        str(argument.value)
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }


@pytest.mark.parametrize("benchmark", run_all.BENCHMARKS, ids=lambda one: one.name)
def test_options_that_it_is_called_with_are_its_own(benchmark: run_all.Benchmark) -> None:
    line = run_all.command(benchmark, data=Path("pictures"), small=True)
    asked = {word for word in line[3:] if word.startswith("--")}
    assert asked <= options_of(benchmark.name)
    assert benchmark.data == ("--data" in asked)


def test_what_is_not_run_says_why() -> None:
    gpu = next(one for one in run_all.BENCHMARKS if one.gpu)
    real = next(one for one in run_all.BENCHMARKS if one.data)
    assert run_all.reason_against(gpu, data=None, gpus=0) == "needs a GPU"
    assert run_all.reason_against(gpu, data=None, gpus=1) == ""
    assert run_all.reason_against(real, data=None, gpus=1) == "needs --data FOLDER"
    assert run_all.reason_against(real, data=Path("pictures"), gpus=0) == ""


def test_a_failure_is_told_and_the_rest_is_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = {"one": "raise SystemExit(3)", "two": "print('| two | 1.5× |')"}
    found = tuple(run_all.Benchmark(name) for name in lines)
    monkeypatch.setattr(run_all, "BENCHMARKS", found)
    monkeypatch.setattr(
        run_all, "command", lambda one, **_: [sys.executable, "-c", lines[one.name]]
    )
    monkeypatch.setattr(sys, "argv", ["run_all"])
    with pytest.raises(SystemExit) as ended:
        run_all.main()
    assert ended.value.code
    said = capfd.readouterr().out
    assert "| two | 1.5× |" in said
    assert re.search(r"^\| bench\.one \| failed with 3, \d+ s \|$", said, re.MULTILINE)
    assert re.search(r"^\| bench\.two \| done, \d+ s \|$", said, re.MULTILINE)


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.setattr(sys, "argv", ["run_all", "--only", "rle,speed"])
    with pytest.raises(SystemExit):
        run_all.main()
    assert "--only speed: no such benchmark; allowed: augment, coco_json" in capfd.readouterr().err
