"""The command `maskmill` from any folder: help without weight, the jobs' own exit codes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import ROOT

from maskmill.command import COMMANDS, main


def test_help_and_version_load_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom maskmill.command import main\nmain(['--help'])\nmain(['--version'])\n"
        "heavy = {'torch', 'ray', 'numpy', 'pyarrow', 'typer', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_every_job_has_a_command_and_every_command_a_job() -> None:
    jobs = {
        f"jobs.{path.stem}"
        for path in (ROOT / "jobs").glob("*.py")
        if "\napp = typer.Typer" in path.read_text("utf-8")
    }
    assert jobs == {module for module, _ in COMMANDS.values()}


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["labl"])
    assert caught.value.code == 2
    assert "did you mean 'label'" in capsys.readouterr().err


def test_a_command_keeps_the_job_s_exit_code_and_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process; `test_packaging.py` runs the installed command."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["label", "--model", "otsu", "--input", "none", "--output", "out"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: no such file or folder")
    with pytest.raises(SystemExit) as caught:
        main(["label", "--help"])
    assert caught.value.code == 0
    assert "maskmill label" in capsys.readouterr().out


def test_every_command_s_module_is_there() -> None:
    missing = [module for module, _ in COMMANDS.values() if not importlib.util.find_spec(module)]
    assert not missing
