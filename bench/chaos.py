"""Proof by force: runs are killed, starved and disturbed; what is published must not show it.

    python -m bench.chaos                                         # one trial of each kind
    python -m bench.chaos --trials 40 --json chaos.json           # in one process each
    python -m bench.chaos --trials 20 --workers 2                 # on a local Ray of its own

Each trial labels the same pictures into a fresh folder, does one bad thing at a random moment,
then repeats the command until it succeeds. It holds that

- every exit code is one of the table (0, 1, 2, 3; -9 where the trial itself killed the run),
- a reader beside it never finds a version that names a missing file, nor exports of two versions,
- manifest, parts, exports and report are byte for byte those of an undisturbed run,
- nothing is lost or doubled, and no temporary file stays after a prune.

The trial that kills an actor needs one: it labels on a local Ray in any case.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq

from bench.ray_processes import actors_below

ROOT = Path(__file__).resolve().parents[1]
KINDS = (
    "kill the driver",
    "terminate the driver",
    "interrupt twice",
    "two runs",
    "prune beside it",
    "no space",
    "half a part",
    "lost part",
    "lost receipts",
    "exports in the way",
    "read-only output",
    "kill an actor",
)
_TRIES = 12


@dataclass(frozen=True, slots=True)
class Trial:
    """What happened in one.

    Attributes:
        number: Of the trial.
        kind: Of `KINDS`.
        after_s: When the bad thing was done.
        codes: Exit codes of all runs.
        wrong: What did not hold, a line each.
        seconds: Wall time.
    """

    number: int
    kind: str
    after_s: float
    codes: list[int]
    wrong: list[str]
    seconds: float


class Field:
    """The pictures, the undisturbed result and how long it took.

    Args:
        folder: Where everything is made.
        images: How many pictures.
        workers: 0 = in one process, else actors of a local Ray.
    """

    def __init__(self, folder: Path, *, images: int = 24, workers: int = 0) -> None:
        self.folder, self.images, self.workers = folder, images, workers
        (folder / "in").mkdir(parents=True)
        write_pictures(folder / "in", images)
        started = time.monotonic()
        code = self.run(folder / "calm").wait()
        self.seconds = time.monotonic() - started
        if code:
            raise RuntimeError(f"the undisturbed run ended with {code}")
        self.truth = published(folder / "calm")

    def command(self, out: Path, *more: str, workers: int = 0) -> list[str]:
        """The job's command; `workers` where it needs some in any case."""
        workers = self.workers or workers
        where = ["--workers", str(workers)] if workers else ["--inline"]
        return [
            *(sys.executable, "-m", "jobs.label", "--input", str(self.folder / "in")),
            *("--output", str(out), "--model", "otsu", "--quiet", *where),
            *("--set", "execution.shard_size=2", *more),
        ]

    def run(
        self, out: Path, *more: str, before: str = "", workers: int = 0
    ) -> subprocess.Popen[bytes]:
        """Starts it, after a line of bash that makes its surroundings worse."""
        command = self.command(out, *more, workers=workers)
        if before:
            own = ["unshare", "--map-root-user", "--mount"] if "mount" in before else []
            command = [*own, "bash", "-ec", f'{before}; exec "$@"', "bash", *command]
        environment = {"RAY_AUTH_MODE": "disabled"} | os.environ  # a Ray of this machine alone
        environment.pop("RAY_ADDRESS", None)
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def write_pictures(folder: Path, number: int) -> None:
    """Writes pictures of five discs each, the same ones every time."""
    rng = np.random.default_rng(0)
    for index in range(number):
        picture = np.full((96, 96, 3), 30, np.uint8)
        for x, y in rng.integers(10, 86, (5, 2)).tolist():
            cv2.circle(picture, (x, y), 7, (200, 180, 160), -1)
        cv2.imwrite(str(folder / f"{index:04d}.png"), picture)


def published(out: Path) -> dict[str, bytes]:
    """Everything that is promised to be the same."""
    manifest = json.loads((out / "manifest.json").read_bytes())
    files = [out / "manifest.json"]
    for part in manifest["parts"]:
        files += [out / table / f"{part['name']}.parquet" for table in ("images", "annotations")]
    for folder in ("exports", "report"):
        files += [path for path in (out / folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(files)}


class Reader(threading.Thread):
    """Opens the dataset again and again and notes what no reader may see."""

    def __init__(self, out: Path) -> None:
        super().__init__(daemon=True)
        self.out, self.ended, self.wrong = out, threading.Event(), Counter[str]()

    def run(self) -> None:
        while not self.ended.wait(0.01):
            try:
                manifest = json.loads((self.out / "manifest.json").read_bytes())
            except FileNotFoundError:
                continue
            except ValueError:
                self.wrong["half a manifest"] += 1
                continue
            for part in manifest["parts"]:
                for table in ("images", "annotations"):
                    if not (self.out / table / f"{part['name']}.parquet").exists():
                        self.wrong["a version names a missing file"] += 1


def disturb(field: Field, number: int, kind: str, rng: random.Random) -> Trial:
    """One trial."""
    started = time.monotonic()
    out = field.folder / f"trial-{number}"
    after = rng.uniform(0.2, 1.0) * field.seconds
    reader = Reader(out)
    reader.start()
    codes, allowed, wrong = _bad_thing(field, out, kind, after)
    for _ in range(_TRIES):
        code = field.run(out).wait()
        codes.append(code)
        if code == 0:
            break
    reader.ended.set()
    reader.join()
    if kind not in ("lost part", "half a part"):  # there the trial itself took them away
        wrong += [f"{text} ({count} times)" for text, count in reader.wrong.items()]
    wrong += [f"exit code {code}" for code in codes if code not in (0, 1, 2, 3, *allowed)]
    if codes[-1]:
        wrong.append("the same command never succeeded")
    else:
        wrong += differences(field.truth, published(out))
        wrong += row_faults(out, field.images)
        pruned = _prune(out)
        if pruned:
            wrong.append(f"prune ended with {pruned}")
        left = [path.name for path in out.rglob(".*")]
        wrong += [f"left behind: {name}" for name in left]
    seconds = time.monotonic() - started
    return Trial(number, kind, round(after, 2), codes, wrong, round(seconds, 1))


def _bad_thing(
    field: Field, out: Path, kind: str, after: float
) -> tuple[list[int], tuple[int, ...], list[str]]:
    """Exit codes so far, further codes that are allowed, and what went wrong."""
    match kind:
        case "kill the driver" | "terminate the driver" | "interrupt twice":
            process = field.run(out)
            time.sleep(after)
            if kind == "kill the driver":
                process.kill()
                return [process.wait()], (-signal.SIGKILL,), []
            number = signal.SIGTERM if kind == "terminate the driver" else signal.SIGINT
            process.send_signal(number)
            if kind == "interrupt twice":
                time.sleep(0.05)
                process.send_signal(number)
            code = process.wait()
            wrong = [] if code in (0, 3) else [f"{kind}: exit code {code}, not 3"]
            return [code], (), wrong
        case "two runs":
            first = field.run(out)
            time.sleep(after / 4)
            second = field.run(out, "--wait")
            return [first.wait(), second.wait()], (), []
        case "prune beside it":
            field.run(out).wait()
            process = field.run(out, "--set", "model.min_area=30")
            time.sleep(after / 2)
            pruned = _prune(out)
            code = process.wait()
            again = field.run(out, "--set", "model.min_area=30").wait()
            back = _without_versions(out)
            return [pruned, code, again], (), back
        case "no space":
            code = field.run(out, before="ulimit -f 6").wait()
            return [code], (), [] if code == 3 else [f"no space: exit code {code}, not 3"]
        case "exports in the way":
            field.run(out, "--no-report", "--no-export").wait()
            (out / "exports").write_text("in the way")
            code = field.run(out).wait()
            (out / "exports").unlink()
            return [code], (), [] if code in (2, 3) else [f"exit code {code}, not 2 or 3"]
        case "read-only output":
            first = field.run(out, "--limit", str(field.images // 2)).wait()
            before = published(out)
            here = shlex.quote(str(out))
            mount = f"mount --bind {here} {here}; mount -o remount,ro,bind {here}"
            code = field.run(out, before=mount).wait()
            wrong = [] if code == 2 else [f"read-only output: exit code {code}, not 2"]
            wrong += differences(before, published(out))
            return [first, code], (), wrong + _without_versions(out)
        case "kill an actor":
            process = field.run(out, workers=1)
            killed = _kill_actor(process, out / "receipts")
            code = process.wait()
            wrong = [] if killed else ["no actor was there to be killed"]
            return [code], (), wrong + ([f"a dead actor: exit code {code}, not 0"] if code else [])
    field.run(out).wait()
    victims = sorted((out / "annotations").iterdir())
    if kind == "lost receipts":
        victims = sorted((out / "receipts").iterdir())
    for path in victims[::3]:
        if kind == "half a part":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        else:
            path.unlink()
    return [], (), []


def _prune(out: Path) -> int:
    command = [sys.executable, "-m", "jobs.label", "--output", str(out), "--prune"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode


def _kill_actor(process: subprocess.Popen[bytes], receipts: Path) -> bool:
    """Kills the run's own actors as soon as a shard is done; whether there were any."""
    actors: list[int] = []
    while process.poll() is None:
        actors = actors or actors_below(process.pid)
        if actors and receipts.is_dir() and any(receipts.iterdir()):
            try:
                for pid in actors:
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return False  # it ended by itself just now
            return True
        time.sleep(0.002)
    return False


def _without_versions(out: Path) -> list[str]:
    """Lets the dataset begin anew after a trial that changed the config; parts stay."""
    for path in [*(out / "versions").glob("*.json"), out / "manifest.json"]:
        path.unlink()
    return []


def differences(truth: dict[str, bytes], found: dict[str, bytes]) -> list[str]:
    """What is lost, doubled or other than it should be; the first ten."""
    wrong = [f"lost: {name}" for name in truth.keys() - found.keys()]
    wrong += [f"doubled or left: {name}" for name in found.keys() - truth.keys()]
    wrong += [f"other bytes: {n}" for n in truth.keys() & found.keys() if truth[n] != found[n]]
    return sorted(wrong)[:10]


def row_faults(out: Path, images: int) -> list[str]:
    """What is wrong with the rows that a reader counts: one a picture, no more, no less."""
    names = Counter[str]()
    for path in (out / "images").glob("*.parquet"):
        names.update(pq.read_table(path, columns=["file_name"])["file_name"].to_pylist())
    wanted = {f"{number:04d}.png" for number in range(images)}
    wrong = [f"lost: the row of {name}" for name in sorted(wanted - names.keys())]
    return wrong + [f"{count} rows of {name}" for name, count in names.items() if count > 1]


def run_trials(
    folder: Path,
    *,
    trials: int,
    kinds: Sequence[str] = KINDS,
    workers: int = 0,
    seed: int = 0,
    images: int = 24,
) -> list[Trial]:
    """Trials of all kinds in turn.

    Args:
        folder: Empty; datasets are made in it.
        trials: How many.
        kinds: Some of `KINDS`.
        workers: See `Field`.
        seed: Of the moments.
        images: Pictures a trial.
    """
    field = Field(folder, images=images, workers=workers)
    rng = random.Random(seed)
    return [disturb(field, n, kinds[n % len(kinds)], rng) for n in range(trials)]


def tell_trials(done: Sequence[Any], file: Path | None) -> int:
    """Prints how many trials there were, and writes them as JSON; 1 where something did not hold.

    Args:
        done: Dataclasses with the lines `wrong`.
        file: To write.
    """
    bad = sum(bool(trial.wrong) for trial in done)
    print(f"{len(done)} trials, {bad} with something wrong")
    if file:
        file.write_text(json.dumps([asdict(trial) for trial in done], indent=1) + "\n")
    return int(bad > 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs trials, prints what each did; 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=len(KINDS))
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        done = run_trials(
            Path(folder),
            trials=given.trials,
            workers=given.workers,
            seed=given.seed,
            images=given.images,
        )
    for trial in done:
        state = "; ".join(trial.wrong) or "as it should be"
        print(f"{trial.number:4} {trial.kind:22} {trial.codes!s:18} {trial.seconds:6} s  {state}")
    return tell_trials(done, given.json)


if __name__ == "__main__":
    sys.exit(main())
