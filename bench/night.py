"""What a night costs when little has changed: pictures read, requests, bytes, files, seconds.

`python -m bench.night --images 20000` labels small JPEGs with otsu, in one process, with exports
and without the report, then changes the input in the ways that inputs change and labels again. Each
night is a process of its own; bytes are those of its reads and writes. Beside each stands a bare
walk with stat over the same input, which is what rsync needs to learn that nothing changed, and
with `--before CHECKOUT` the same nights with an earlier program.

`--store s3://bucket` puts input and dataset there (credentials and AWS_ENDPOINT_URL from the
environment) and counts requests. `--killed` labels each night into a second dataset too, kills that
run at a random moment, lets the next one end it, and compares what both have published.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCAL = [
    "changed",
    "read",
    "bytes_read",
    "written",
    "json",
    "files",
    "seconds",
    "walk",
    "peak",
    "dataset",
]
STORE = [
    "changed",
    "read",
    "LIST",
    "HEAD",
    "GET",
    "PUT",
    "COPY",
    "DELETE",
    "received",
    "sent",
    "json",
    "seconds",
    "peak",
    "dataset",
]
_NOTES = ("receipts/", "run.", "job.json", "index/", "listings/", ".lease")
"""What data-format.md does not hold to the byte."""


def one_night(config: dict[str, Any]) -> dict[str, Any]:
    """Labels in this process, and says what that took. Runs with any version of the program."""
    from pipeline.engine.run import label
    from pipeline.readers.folder import FolderReader
    from pipeline.readers.parquet import ParquetReader
    from pipeline.readers.webdataset import WebDatasetReader
    from schemas.config.job import JobConfig

    read = [0]
    for kind in (FolderReader, WebDatasetReader, ParquetReader):

        def noted(self: Any, record: Any, real: Callable[..., bytes] = kind.read) -> bytes:
            read[0] += 1
            return real(self, record)

        kind.read = noted  # type: ignore[method-assign]
    if "history" not in JobConfig.model_fields:
        config.pop("history")
    before, started = _bytes(), time.monotonic()
    with _requests(config["output"]) as requests:
        result = label(JobConfig.parse(config), report=False)
    seconds, after = time.monotonic() - started, _bytes()
    return {
        "computed": result.computed,
        "read": read[0],
        "bytes_read": after[0] - before[0],
        "written": after[1] - before[1],
        "seconds": round(seconds, 2),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        **(requests or {}),
    }


def _requests(output: str) -> Any:
    """Counts requests while the block lasts, where there are any."""
    if "://" not in output:
        return nullcontext()
    sys.path.append(str(ROOT))  # an earlier program has no such file
    from bench.request_count import requests_counted

    return requests_counted()


def _bytes() -> tuple[int, int]:
    """Bytes that this process has read and written so far, of all files."""
    lines = Path("/proc/self/io").read_text().splitlines()
    found = {key: int(value) for key, _, value in (line.partition(":") for line in lines)}
    return found["rchar"], found["wchar"]


def files_of(output: str) -> dict[str, tuple[Any, int]]:
    """Path → (inode or etag, bytes) of every file of a dataset."""
    if "://" not in output:
        return {
            os.path.relpath(path, output): (path.stat().st_ino, path.stat().st_size)
            for path in Path(output).rglob("*")
            if path.is_file()
        }
    from pipeline.storage.errors import MissingError
    from pipeline.storage.storage import Storage

    try:
        listed = Storage().list(output, hidden=True)
        return {entry.path: (entry.token, entry.size) for entry in listed}
    except MissingError:
        return {}


def night(program: Path, config: dict[str, Any]) -> dict[str, Any]:
    """One night in a process of its own, with the program of a checkout."""
    before = files_of(config["output"])
    text = subprocess.run(
        _command(config), env=_environment(program), check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    found = json.loads(text.splitlines()[-1])
    after = files_of(config["output"])
    ids = {place for place, _ in before.values()}
    fresh = {name: size for name, (place, size) in after.items() if place not in ids}
    found["files"] = len(fresh)
    found["json"] = sum(
        size for name, size in fresh.items() if "exports/" in name and name.endswith(".json")
    )
    found["dataset"] = sum(dict(after.values()).values())  # a hard link counts once
    return found


def killed_night(config: dict[str, Any], usual: float, rng: random.Random) -> float:
    """One night that is killed once, then ended by another run; seconds until the kill."""
    wait = rng.uniform(0.3, 1.1) * (usual + 2.0)  # the interpreter and its modules take two
    with subprocess.Popen(
        _command(config), env=_environment(ROOT), stdout=subprocess.DEVNULL
    ) as process:
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.kill()
    night(ROOT, config)
    return wait


def _command(config: dict[str, Any]) -> list[str]:
    return [sys.executable, "-P", __file__, "--night", json.dumps(config)]


def _environment(program: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(program)}


def published(output: str) -> dict[str, Any]:
    """Path → bytes, or their MD5 in a store, of what readers may rely on: all but notes of runs."""
    # What a killed writer left under a hidden name is nobody's, and goes with the next prune.
    found = {
        name: own
        for name, own in files_of(output).items()
        if not name.startswith(_NOTES) and "/." not in f"/{name}"
    }
    if "://" in output:
        return found
    return {name: Path(output, name).read_bytes() for name in found}


def main() -> None:
    """Prints a table of all nights, or a line of JSON each with `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--layout", choices=("folder", "tars", "parquet"), default="folder")
    parser.add_argument("--store", default="", metavar="URI", help="a bucket or prefix")
    parser.add_argument("--max-removed", type=float, default=0.2)
    parser.add_argument("--keep", type=int, default=2)
    parser.add_argument("--nights", type=int, default=10, help="of 1 %% each, at the end")
    parser.add_argument("--before", type=Path, help="checkout of an earlier version")
    parser.add_argument("--killed", action="store_true")
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
        inside = f"{options.store.rstrip('/')}/{Path(name).name}" if options.store else name
        _compare(inside, programs, options)


def _compare(work: str, programs: dict[str, Path], options: argparse.Namespace) -> None:
    from bench.night_inputs import LAYOUTS
    from pipeline.storage.storage import Storage

    count = options.images
    given = LAYOUTS[options.layout](f"{work}/in", count, Storage())
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
    columns = STORE if options.store else LOCAL
    if not options.json:
        print(
            "| night | program | "
            + " | ".join(columns)
            + " |\n"
            + "|---" * (len(columns) + 2)
            + "|"
        )
    for title, prepare, model in cases:
        changed = prepare()
        walk = given.walk()
        for who, program in programs.items():
            config = {
                "input": {"uri": f"{work}/in"},
                "output": f"{work}/{who}",
                "model": {"name": "otsu", **model},
                "task": "panoptic",
                "execution": {"inline": True},
                "history": {"keep": options.keep, "max_removed": options.max_removed},
            }
            found = {"changed": changed, "walk": round(walk, 2), **night(program, config)}
            if who == "ours" and options.killed:
                config["output"] = f"{work}/killed"
                found["killed_after"] = killed_night(config, found["seconds"], rng)
                _hold_alike(title, f"{work}/ours", f"{work}/killed")
            if options.json:
                print(json.dumps({"night": title, "program": who, **found}), flush=True)
                continue
            cells = [_cell(name, found.get(name, 0)) for name in columns]
            print(f"| {title} | {who} | {' | '.join(cells)} |", flush=True)


def _cell(name: str, value: float) -> str:
    in_bytes = name in ("bytes_read", "written", "json", "dataset", "received", "sent")
    return f"{value / 1e6:.2f} MB" if in_bytes else f"{value:g}"


def _hold_alike(title: str, ours: str, killed: str) -> None:
    """Ends the bench where a killed night has left other bytes."""
    one, other = published(ours), published(killed)
    if differ := sorted(name for name in {*one, *other} if one.get(name) != other.get(name)):
        raise SystemExit(f"{title}: the killed run left other bytes in {differ[:9]}")


if __name__ == "__main__":
    main()
