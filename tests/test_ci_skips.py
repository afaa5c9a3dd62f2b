"""The gate on skips, run on small suites in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).resolve().parent / "support"


def run(folder: Path, body: str, *, ci: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_sample.py").write_text(f"import pytest\n{body}\n", encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "ci_skips", "--rootdir", str(folder), "."],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(SUPPORT), "CI": ci, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )


SKIPS_INSIDE = "def test_a(): pytest.skip('no Ceph here')"
SKIPS_BY_MARK = "@pytest.mark.skipif(True, reason='no Ceph here')\ndef test_a(): pass"
SKIPS_MODULE = "pytest.skip('no Ceph here', allow_module_level=True)"
ALLOWED = "@pytest.mark.skipif(True, reason='needs an accelerator')\ndef test_a(): pass"
EXPECTED_FAILURE = "@pytest.mark.xfail\ndef test_a(): assert False"
PASSES = "def test_b(): pass"


@pytest.mark.parametrize("body", [SKIPS_INSIDE, SKIPS_BY_MARK, SKIPS_MODULE])
def test_an_unexpected_skip_fails_under_ci(tmp_path, body):
    done = run(tmp_path, f"{PASSES}\n{body}" if body != SKIPS_MODULE else body, ci="true")
    assert done.returncode == 1, done.stdout
    assert "test_sample.py" in done.stdout
    assert "no Ceph here" in done.stdout
    assert "skips that CI does not allow" in done.stdout


@pytest.mark.parametrize("body", [ALLOWED, EXPECTED_FAILURE])
def test_an_allowed_skip_passes_under_ci(tmp_path, body):
    done = run(tmp_path, f"{PASSES}\n{body}", ci="true")
    assert done.returncode == 0, done.stdout


def test_elsewhere_every_skip_passes(tmp_path):
    assert run(tmp_path, f"{PASSES}\n{SKIPS_INSIDE}", ci="").returncode == 0
