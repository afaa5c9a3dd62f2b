"""What is not there is nothing, and is asked for once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.storage.errors import StorageError
from pipeline.storage.optional import files_in, read_if_there
from pipeline.storage.storage import Storage

STORAGE = Storage()


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_file_or_folder_that_is_missing_is_nothing(tmp_path: Path, kind: str) -> None:
    root = str(tmp_path) if kind == "local" else f"memory://{tmp_path.name}"
    assert files_in(STORAGE, f"{root}/gone") == []
    assert read_if_there(STORAGE, f"{root}/gone.json") is None
    for name in ("b/c.txt", "a.txt", ".hidden"):
        STORAGE.write(f"{root}/there/{name}", name.encode())
    assert [one.path for one in files_in(STORAGE, f"{root}/there")] == ["a.txt", "b/c.txt"]
    flat = files_in(STORAGE, f"{root}/there", hidden=True, recursive=False)
    assert [one.path for one in flat] == [".hidden", "a.txt"]
    assert read_if_there(STORAGE, f"{root}/there/b/c.txt") == b"b/c.txt"


def test_another_trouble_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="this is a folder, not a file"):
        read_if_there(STORAGE, str(tmp_path))


def test_below_a_file_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    below = str(tmp_path / "thesis.txt" / "manifest.json")
    assert read_if_there(STORAGE, below) is None
    assert files_in(STORAGE, below) == []
