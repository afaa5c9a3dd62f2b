"""What a night costs when little has changed: pictures read, bytes, files, seconds, memory.

`python -m bench.night --images 20000` labels small JPEGs (hard links of a few files) with otsu, in
one process, with exports and without the report, then changes the input in the ways that inputs
change and labels again. Each night is a process of its own; bytes are those of its reads and
writes. Beside each stands a bare walk with stat over the same input, which is what rsync needs to
learn that nothing changed, and with `--before CHECKOUT` the same nights with an earlier program.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
KINDS = 64


def picture(seed: int) -> bytes:
    """A JPEG of 64x64 with a few discs."""
    rng = np.random.default_rng(seed)
    pixels = np.full((64, 64, 3), 20, np.uint8)
    for _ in range(int(rng.integers(1, 5))):
        x, y = rng.integers(8, 56, 2).tolist()
        cv2.circle(pixels, (x, y), int(rng.integers(3, 7)), (220, 230, 240), -1)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


class Folder:
    """Loose files, a thousand a folder."""

    def __init__(self, root: Path, images: int) -> None:
        """Links the pictures."""
        self.root, self.names = root, [f"{n // 1000:04d}/{n:08d}.jpg" for n in range(images)]
        store = root.with_name("kinds")
        store.mkdir()
        for seed in range(KINDS):
            (store / f"{seed}.jpg").write_bytes(picture(seed))
        for number, name in enumerate(self.names):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(store / f"{number % KINDS}.jpg", root / name)
        self._seed = 1_000

    def change(self, numbers: list[int]) -> int:
        """Gives these pictures other bytes."""
        for number in numbers:
            self._seed += 1
            path = self.root / self.names[number]
            path.unlink(missing_ok=True)  # it may be gone, and comes back
            path.write_bytes(picture(self._seed))
        return len(numbers)

    def add(self) -> int:
        """One picture more."""
        self._seed += 1
        (self.root / f"0000/new-{self._seed}.jpg").write_bytes(picture(self._seed))
        return 1

    def remove(self, numbers: list[int]) -> int:
        """Takes these pictures away."""
        for number in numbers:
            (self.root / self.names[number]).unlink(missing_ok=True)
        return len(numbers)


class Tars(Folder):
    """Tars of 500 pictures each; a tar is written anew where one of its pictures changes."""

    SIZE = 500

    def __init__(self, root: Path, images: int) -> None:
        """Writes the tars."""
        root.mkdir(parents=True)
        self.root, self._seed = root, 1_000
        self._kinds = [picture(seed) for seed in range(KINDS)]
        self._own: dict[int, bytes] = {}
        self._images = images
        for tar in range((images + self.SIZE - 1) // self.SIZE):
            self._write(tar)

    def _write(self, tar: int) -> None:
        with tarfile.open(self.root / f"{tar:06d}.tar", "w") as out:
            for number in range(tar * self.SIZE, min((tar + 1) * self.SIZE, self._images)):
                data = self._own.get(number, self._kinds[number % KINDS])
                if data:
                    info = tarfile.TarInfo(f"{number:08d}.jpg")
                    info.size = len(data)
                    out.addfile(info, io.BytesIO(data))

    def change(self, numbers: list[int]) -> int:
        """Gives these pictures other bytes."""
        for number in numbers:
            self._seed += 1
            self._own[number] = picture(self._seed)
        for tar in sorted({number // self.SIZE for number in numbers}):
            self._write(tar)
        return len(numbers)

    def add(self) -> int:
        """One tar of one picture more."""
        self._seed += 1
        with tarfile.open(self.root / f"new-{self._seed}.tar", "w") as out:
            data = picture(self._seed)
            info = tarfile.TarInfo("one.jpg")
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
        return 1

    def remove(self, numbers: list[int]) -> int:
        """Takes these pictures away."""
        self._own |= dict.fromkeys(numbers, b"")
        for tar in sorted({number // self.SIZE for number in numbers}):
            self._write(tar)
        return len(numbers)


def one_night(config: dict[str, Any]) -> dict[str, Any]:
    """Labels in this process, and says what that took. Runs with any version of the program."""
    from pipeline.engine.run import label
    from pipeline.readers.folder import FolderReader
    from pipeline.readers.webdataset import WebDatasetReader
    from schemas.config.job import JobConfig

    read = [0, 0]
    for kind in (FolderReader, WebDatasetReader):

        def noted(self: Any, record: Any, real: Callable[..., bytes] = kind.read) -> bytes:
            data = real(self, record)
            read[0] += 1
            read[1] += len(data)
            return data

        kind.read = noted  # type: ignore[method-assign]
    if "history" not in JobConfig.model_fields:
        config.pop("history")
    before, started = _bytes(), time.monotonic()
    result = label(JobConfig.parse(config), report=False)
    seconds, after = time.monotonic() - started, _bytes()
    return {
        "computed": result.computed,
        "pictures_read": read[0],
        "picture_bytes": read[1],
        "bytes_read": after[0] - before[0],
        "bytes_written": after[1] - before[1],
        "seconds": round(seconds, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _bytes() -> tuple[int, int]:
    """Bytes that this process has read and written so far, of all files."""
    lines = Path("/proc/self/io").read_text().splitlines()
    found = {key: int(value) for key, _, value in (line.partition(":") for line in lines)}
    return found["rchar"], found["wchar"]


def inodes(folder: Path) -> dict[str, int]:
    """Path → inode of every file."""
    return {
        os.path.join(where, name): os.stat(os.path.join(where, name)).st_ino
        for where, _, names in os.walk(folder)
        for name in names
    }


def size_of(folder: Path) -> int:
    """Bytes of all files, hard links once."""
    seen = {}
    for where, _, names in os.walk(folder):
        for name in names:
            info = os.stat(os.path.join(where, name))
            seen[info.st_ino] = info.st_size
    return sum(seen.values())


def scan(folder: Path) -> float:
    """Seconds of a walk with stat over the input."""
    started = time.monotonic()
    for where, _, names in os.walk(folder):
        for name in names:
            os.stat(os.path.join(where, name))
    return time.monotonic() - started


def night(program: Path, config: dict[str, Any]) -> dict[str, Any]:
    """One night in a process of its own, with the program of a checkout."""
    out = Path(config["output"])
    before = inodes(out) if out.exists() else {}
    env = {**os.environ, "PYTHONPATH": str(program)}
    command = [sys.executable, "-P", __file__, "--night", json.dumps(config)]
    text = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = json.loads(text.splitlines()[-1])
    after = inodes(out)
    fresh = [path for path, inode in after.items() if before.get(path) != inode]
    new = set(after.values()) - set(before.values())
    found["files_written"] = len(new)
    found["json_bytes"] = sum(
        os.path.getsize(path)
        for path in fresh
        if "/exports/" in path and path.endswith(".json") and after[path] in new
    )
    found["dataset_bytes"] = size_of(out)
    return found


def main() -> None:
    """Prints a table of all nights, and a line of JSON each with `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--layout", choices=("folder", "tars"), default="folder")
    parser.add_argument("--max-removed", type=float, default=0.2)
    parser.add_argument("--keep", type=int, default=2)
    parser.add_argument("--nights", type=int, default=10, help="of 1 %% each, at the end")
    parser.add_argument("--before", type=Path, help="checkout of an earlier version")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--night", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.night:
        print(json.dumps(one_night(json.loads(options.night))))
        return
    programs = {"ours": ROOT}
    if options.before:
        programs["before"] = options.before.resolve()
    with tempfile.TemporaryDirectory(prefix="bench-night-") as name:
        _compare(Path(name), programs, options)


def _compare(work: Path, programs: dict[str, Path], options: argparse.Namespace) -> None:
    count = options.images
    kind = Folder if options.layout == "folder" else Tars
    given = kind(work / "in", count)
    rng = random.Random(0)

    def some() -> list[int]:
        return sorted(rng.sample(range(count), count // 100))

    place = list(range(count // 2, count // 2 + count // 100))
    cases: list[tuple[str, Callable[[], int], dict[str, Any]]] = [
        ("night 0", lambda: count, {}),
        ("nothing changed", lambda: 0, {}),
        ("1 % scattered", lambda: given.change(some()), {}),
        ("1 % in one place", lambda: given.change(place), {}),
        ("one new", given.add, {}),
        ("1 % gone", lambda: given.remove(some()), {}),
        *(
            (f"night {n + 1} of 1 %", lambda: given.change(some()), {})
            for n in range(options.nights)
        ),
        ("another model", lambda: count, {"min_area": 2}),
    ]
    print(
        "| night | program | changed | read | bytes read | written | of it JSON exports | files | "
        "seconds | peak MB | dataset |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for title, prepare, model in cases:
        changed = prepare()
        walk = scan(work / "in")
        for who, program in programs.items():
            config = {
                "input": {"uri": str(work / "in")},
                "output": str(work / who),
                "model": {"name": "otsu", **model},
                "task": "panoptic",
                "execution": {"inline": True},
                "history": {"keep": options.keep, "max_removed": options.max_removed},
            }
            found = night(program, config)
            if options.json:
                print(json.dumps({"night": title, "program": who, "changed": changed, **found}))
                continue
            print(
                f"| {title} | {who} | {changed} | {found['pictures_read']} | "
                f"{found['bytes_read'] / 1e6:.1f} MB | {found['bytes_written'] / 1e6:.1f} MB | "
                f"{found['json_bytes'] / 1e6:.1f} MB | {found['files_written']} | "
                f"{found['seconds']:.1f} (walk {walk:.2f}) | "
                f"{found['peak_mb']} | {found['dataset_bytes'] / 1e6:.1f} MB |",
                flush=True,
            )
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
