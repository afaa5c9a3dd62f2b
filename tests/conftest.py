"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("maskmill", deadline=None)  # shared machines are slow at times
settings.load_profile("maskmill")

pytest_plugins = [
    *("ci_skips", "fuzz", "interpreted_kernels", "kernel_builds", "processes"),
    *("ray_cluster", "report_datasets", "s3_server"),
]

ROOT = Path(__file__).resolve().parent.parent


_temporary = pytest.StashKey[tuple[str, str | None, str | None]]()


def pytest_configure(config: pytest.Config) -> None:
    """Whatever a test or a program that it starts or kills leaves behind goes with the session.

    pytest's own folders, of which it keeps the last three for whoever looks into a failure, stay
    where they are.
    """
    root = os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    folder = tempfile.mkdtemp(prefix="mmt", dir=root if len(root) < 12 else "/tmp")
    config.stash[_temporary] = (folder, os.environ.get("TMPDIR"), tempfile.tempdir)
    os.environ["TMPDIR"] = tempfile.tempdir = folder


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes the session's folder."""
    folder, variable, root = config.stash[_temporary]
    tempfile.tempdir = root
    os.environ.pop("TMPDIR")
    if variable is not None:
        os.environ["TMPDIR"] = variable
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real pictures and labels that is not part of the repository."""
    folder = Path(os.environ.get("MASKMILL_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "MANIFEST.csv").is_file():
        pytest.skip("needs the shared test data: set MASKMILL_SHARED_DATA to its folder")
    return folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is marked `gpu` needs one."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs an accelerator")
