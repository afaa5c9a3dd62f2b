"""Folders that are replaced as a whole: a reader never sees a mixture, files of others stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.storage import swap
from pipeline.storage.storage import Storage
from pipeline.storage.swap import current_folder, rebuilt, sweep_asides

STORAGE = Storage()
ROOT = Path(__file__).resolve().parents[3]


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def fill(place: str, number: int) -> None:
    for name in ("a.json", "deep/b.png", "deep/c.png"):
        STORAGE.write(f"{place}/{name}", str(number).encode())


@pytest.fixture(params=["exchange", "two renames"])
def out(request, tmp_path, monkeypatch) -> Path:
    if request.param == "two renames":
        monkeypatch.setattr(swap, "_swap", lambda one, other: False)
    with rebuilt(STORAGE, str(tmp_path / "out"), version="000001-a") as place:
        fill(place.uri, 1)
    return tmp_path / "out"


def test_the_folder_is_as_it_was_until_the_end(out):
    (out / "mine.txt").write_text("mine")
    before = tree(out)
    with rebuilt(STORAGE, str(out), version="000002-a") as place:
        assert tree(Path(place.uri)) == before
        fill(place.uri, 2)
        STORAGE.remove(f"{place.uri}/deep/c.png")
        assert tree(out) == before
    assert tree(out) == {"a.json": "2", "deep/b.png": "2", "mine.txt": "mine"}
    assert os.listdir(out.parent) == ["out"]


def test_what_is_not_written_again_is_the_same_file(out):
    number = (out / "deep/b.png").stat().st_ino
    with rebuilt(STORAGE, str(out), version="000002-a") as place:
        STORAGE.write(f"{place.uri}/a.json", b"2")
    assert (out / "deep/b.png").stat().st_ino == number


def test_a_failure_leaves_the_old_folder(out):
    before = tree(out)

    def fails() -> None:
        with rebuilt(STORAGE, str(out), version="000002-a") as place:
            fill(place.uri, 2)
            raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        fails()
    assert tree(out) == before
    assert os.listdir(out.parent) == ["out"]


def test_what_others_write_meanwhile_is_kept(out):
    with rebuilt(STORAGE, str(out), version="000002-a") as place:
        fill(place.uri, 2)
        (out / "evaluation.json").write_text("new")
    assert tree(out)["evaluation.json"] == "new"


def test_a_reader_never_sees_two_versions(tmp_path):
    out = tmp_path / "out"
    with rebuilt(STORAGE, str(out), version="000001-a") as place:
        fill(place.uri, 0)
    ended, mixtures = threading.Event(), []

    def reads() -> None:
        while not ended.is_set():
            folder = os.open(out, os.O_RDONLY)  # a reader that holds the folder
            try:
                seen = set()
                for name in ("a.json", "deep/b.png", "deep/c.png"):
                    file = os.open(name, os.O_RDONLY, dir_fd=folder)
                    seen.add(os.read(file, 9))
                    os.close(file)
                if len(seen) > 1:
                    mixtures.append(seen)
            except FileNotFoundError:
                pass  # the old folder is being removed
            finally:
                os.close(folder)

    thread = threading.Thread(target=reads)
    thread.start()
    for number in range(1, 60):
        with rebuilt(STORAGE, str(out), version="000001-a") as place:
            fill(place.uri, number)
    ended.set()
    thread.join()
    assert mixtures == []


def test_links_out_of_the_folder_are_not_written_through(out, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.png").write_text("precious")
    (out / "linked").symlink_to(outside)
    (out / "ours").symlink_to(outside)
    with rebuilt(STORAGE, str(out), version="000002-a", ours={"ours"}) as place:
        STORAGE.write(f"{place.uri}/ours/b.png", b"2")
    assert (outside / "b.png").read_text() == "precious"
    assert (out / "linked").is_symlink()
    assert (out / "ours/b.png").read_text() == "2"


def test_a_folder_that_is_a_link_stays_one(tmp_path):
    (tmp_path / "disk/exports").mkdir(parents=True)
    (tmp_path / "exports").symlink_to(tmp_path / "disk/exports")
    with rebuilt(STORAGE, str(tmp_path / "exports"), version="000001-a") as place:
        fill(place.uri, 1)
    assert (tmp_path / "exports").is_symlink()
    assert tree(tmp_path / "disk/exports")["a.json"] == "1"


def test_a_killed_builder_leaves_what_the_next_run_sweeps(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from pipeline.storage.storage import Storage\n"
        "from pipeline.storage.swap import rebuilt\n"
        "with rebuilt(Storage(), sys.argv[1], version='000001-a') as place:\n"
        "    Storage().write(place.uri + '/a', b'1')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], cwd=ROOT, check=False)
    (tmp_path / ".mine").mkdir()
    assert len(os.listdir(tmp_path)) == 2
    sweep_asides(str(tmp_path))
    assert os.listdir(tmp_path) == [".mine"]


def test_the_old_folder_comes_back_after_a_kill_between_two_renames(tmp_path):
    (tmp_path / ".out.old").mkdir()
    (tmp_path / ".out.old/mine.txt").write_text("mine")
    with rebuilt(STORAGE, str(tmp_path / "out"), version="000001-a") as place:
        fill(place.uri, 1)
    assert tree(tmp_path / "out")["mine.txt"] == "mine"
    assert os.listdir(tmp_path) == ["out"]


def test_on_an_object_store_a_pointer_names_the_prefix_that_is_whole():
    out = "memory://bucket/exports"
    STORAGE.write(f"{out}/mine.txt", b"mine")
    assert current_folder(STORAGE, out) == out
    for number, version in enumerate(("000001-a", "000002-b", "000003-c"), 1):
        with rebuilt(STORAGE, out, version=version) as place:
            assert current_folder(STORAGE, out) != place.uri
            fill(place.uri, number)
        assert current_folder(STORAGE, out) == f"{out}/{version}" == place.uri
        assert STORAGE.read(f"{current_folder(STORAGE, out)}/a.json") == str(number).encode()
    paths = {entry.path.partition("/")[0] for entry in STORAGE.list(out)}
    assert paths == {"mine.txt", "current.json", "000002-b", "000003-c"}
    STORAGE.write(f"{out}/current.json", json.dumps({"prefix": "../../x"}).encode())
    assert current_folder(STORAGE, out) == out
