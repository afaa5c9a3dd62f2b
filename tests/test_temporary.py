"""A run of the suite leaves nothing in the temporary folder, though a test dies in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INNER = """
import os, subprocess, sys, tempfile
from pathlib import Path

from pipeline.storage.local import socket_folder


def test_leaves_much_behind():
    Path(tempfile.mkdtemp(prefix="maskmill-"), "weights").write_bytes(b"x")
    assert Path(socket_folder()).parent == Path(tempfile.gettempdir())
    code = "import os, tempfile; tempfile.mkdtemp(prefix='maskmill-'); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    print("made in", tempfile.gettempdir(), len(os.listdir(tempfile.gettempdir())))
"""


def test_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "conftest.py").write_bytes((ROOT / "tests/conftest.py").read_bytes())
    (tmp_path / "tests" / "test_inner.py").write_text(INNER)
    paths = [str(ROOT), str(ROOT / "tests" / "support")]
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), "--basetemp", str(tmp_path / "own"), "tests"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    words = next(line for line in done.stdout.splitlines() if "made in" in line).split()
    folder, made = Path(words[-2]), int(words[-1])
    assert folder.name.startswith("mmt")
    assert made >= 3
    assert not folder.exists()
