"""Proof by force, for object stores: a proxy that fails in front of a real S3 server.

    python -m bench.chaos_store --endpoint http://127.0.0.1:8000 --bucket tries --trials 40

Each trial labels the same pictures from the store into a fresh prefix of it through the proxy,
which spoils a share of the requests in one way, then repeats the job until it succeeds, without
faults once one run has failed of them. With `--kills`, two rounds of three also kill (-9) the
driver, or the worker of a local Ray, at a random request. It holds that every object of the
version, of exports and report is byte for byte that of an undisturbed run, that every picture has
one row, that exit codes are of the table, and that no finished shard is done again. Credentials
come from the environment, as for every S3 tool.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.chaos import tell_trials, write_pictures
from bench.fault_proxy import KINDS, FaultProxy
from bench.ray_processes import actors_below
from pipeline.engine.run import label
from pipeline.engine.summary import RunResult
from pipeline.errors import ExecutionError, OverBudgetError
from pipeline.ledger.ledger import Ledger, open_ledger
from pipeline.storage.errors import MissingError, StorageError
from pipeline.storage.storage import Storage
from pipeline.storage.swap import current_folder
from pipeline.storage.uris import join
from schemas.config.job import JobConfig, StorageConfig

KILLS = ("", "driver", "worker")
"""What a round of `KINDS` kills besides."""
_ROOT = Path(__file__).resolve().parents[1]
_TRIES = 5
_SHARD = 4


@dataclass(frozen=True, slots=True)
class Trial:
    """What happened in one.

    Attributes:
        number: Of the trial.
        kind: Of `KINDS`.
        kill: Of `KILLS`.
        spoilt: Requests that the proxy spoilt.
        runs: How often the job was called until it succeeded.
        retries: Calls that the last disturbed run tried again.
        again: Images of finished shards that the last run did again.
        wrong: What did not hold, a line each.
        seconds: Wall time.
    """

    number: int
    kind: str
    kill: str
    spoilt: int
    runs: int
    retries: int
    again: int
    wrong: list[str]
    seconds: float


class StoreField:
    """The pictures in a bucket, and the undisturbed result.

    Args:
        proxy: Everything goes through it.
        bucket: URI of an empty prefix.
        credentials: Key, secret and region; its endpoint is replaced by the proxy's.
        images: How many.
    """

    def __init__(
        self, proxy: FaultProxy, bucket: str, credentials: StorageConfig, *, images: int = 24
    ) -> None:
        self.proxy, self.bucket, self.images = proxy, bucket, images
        behind = f"http://{proxy.host}:{proxy.port}"
        self.direct = credentials.model_copy(update={"endpoint_url": behind})
        self.config = credentials.model_copy(update={"endpoint_url": proxy.endpoint})
        self.storage = Storage(self.config)
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            write_pictures(Path(folder), images)
            for path in sorted(Path(folder).iterdir()):
                self.storage.write(join(bucket, f"in/{path.name}"), path.read_bytes())
        before = proxy.asked
        self.run("calm")
        self.requests = proxy.asked - before
        self.truth = self.published("calm")

    def run(self, out: str) -> RunResult:
        """Labels into a prefix, in this process."""
        config = JobConfig.parse(
            {
                "input": {"uri": join(self.bucket, "in")},
                "output": join(self.bucket, out),
                "model": {"name": "otsu"},
                "execution": {"inline": True, "shard_size": _SHARD},
                "storage": self.config.model_dump(),
                "max_failures": "0",
            }
        )
        return label(config)

    def run_killed(self, out: str, victim: str, after: int) -> int:
        """The same in a process, which loses its driver or worker after so many requests; its code.

        A worker is not killed before the first shard is done.
        """
        begun = self.proxy.asked
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jobs.label", "--input", join(self.bucket, "in")),
                *("--output", join(self.bucket, out), "--model", "otsu", "--max-failures", "0"),
                *("--set", f"execution.shard_size={_SHARD}", "--quiet"),
                *(["--workers", "1"] if victim == "worker" else ["--inline"]),
                *("--endpoint-url", self.proxy.endpoint),
            ],
            cwd=_ROOT,
            env={"RAY_AUTH_MODE": "disabled"} | os.environ | self._credentials(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None:
            time.sleep(0.002)
            if self.proxy.asked - begun < after:
                continue
            if victim == "driver":
                process.kill()
                break
            if self.images_done(out) and (actors := actors_below(process.pid)):
                for pid in actors:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                break
        return process.wait()

    def _credentials(self) -> dict[str, str]:
        names = {
            "AWS_ACCESS_KEY_ID": self.config.key,
            "AWS_SECRET_ACCESS_KEY": self.config.secret,
            "AWS_DEFAULT_REGION": self.config.region,
        }
        return {name: value for name, value in names.items() if value}

    def images_done(self, out: str) -> int:
        """Images of the shards that have a receipt; asked past the proxy."""
        storage = Storage(self.direct)
        found = storage.list(join(self.bucket, out, "receipts"))
        try:
            return sum(json.loads(storage.read(one.uri))["part"]["images"] for one in found)
        except MissingError:
            return 0

    def published(self, out: str) -> dict[str, bytes]:
        """Everything that is promised to be the same."""
        root = join(self.bucket, out)
        manifest = self.storage.read(join(root, "manifest.json"))
        found = {"manifest.json": manifest}
        for part in json.loads(manifest)["parts"]:
            for table in ("images", "annotations"):
                name = f"{table}/{part['name']}.parquet"
                found[name] = self.storage.read(join(root, name))
        for folder in ("exports", "report"):
            place = current_folder(self.storage, join(root, folder))
            for entry in self.storage.list(place):
                name = f"{folder}/{entry.uri.removeprefix(place).lstrip('/')}"
                found[name] = self.storage.read(entry.uri)
        return found

    def rows(self, out: str) -> list[str]:
        """What is wrong with the rows that a reader counts."""
        ledger: Ledger = open_ledger(join(self.bucket, out), self.storage)
        names = [image["file_name"] for image, _ in ledger.rows()]
        wanted = [f"{number:04d}.png" for number in range(self.images)]
        return [] if sorted(names) == wanted else [f"rows of {sorted(names)}"]


def disturb(
    field: StoreField, number: int, kind: str, share: float, *, kill: str = "", moment: float = 0.5
) -> Trial:
    """One trial.

    Args:
        field: Where.
        number: Of the trial.
        kind: Of `KINDS`.
        share: Of the requests that are spoilt.
        kill: Of `KILLS`.
        moment: When, as a share of the requests of an undisturbed run.
    """
    proxy, out = field.proxy, f"trial-{number}-{uuid.uuid4().hex[:6]}"
    proxy.kind, proxy.share, proxy.spoilt = kind, share, 0
    started = time.monotonic()
    wrong: list[str] = []
    kept = again = runs = retries = 0
    if kill:
        runs = 1
        code = field.run_killed(out, kill, round(moment * field.requests))
        allowed = (0, 3, -signal.SIGKILL) if kill == "driver" else (0, 3)
        wrong += [] if code in allowed else [f"exit code {code}"]
        kept = field.images_done(out)
    done = False
    while not done and runs < _TRIES:
        runs += 1
        try:
            result = field.run(out)
            retries, done = result.retries, True
            again = max(0, result.computed - (field.images - kept)) if runs == 2 else 0
        except (ExecutionError, OverBudgetError, StorageError, ValueError) as error:
            proxy.kind = ""  # the same command goes on once the store is well
            if not str(error) or "Traceback" in str(error):
                wrong.append(f"no sentence: {str(error)!r}")
    if not done:
        wrong.append("the same command never succeeded")
    proxy.kind = ""
    wrong += [f"{again} images of finished shards were done again"] if again else []
    if done:
        found = field.published(out)
        wrong += [f"lost: {name}" for name in field.truth.keys() - found.keys()]
        wrong += [f"left: {name}" for name in found.keys() - field.truth.keys()]
        same = field.truth.keys() & found.keys()
        wrong += [f"other bytes: {name}" for name in same if field.truth[name] != found[name]]
        wrong += field.rows(out)
    seconds = round(time.monotonic() - started, 1)
    return Trial(
        number, kind, kill, proxy.spoilt, runs, retries, again, sorted(wrong)[:10], seconds
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs trials, prints what each did; 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--trials", type=int, default=len(KINDS))
    parser.add_argument("--share", type=float, default=0.1, help="of the requests")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--kills", action="store_true", help="two rounds of three kill, too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    credentials = StorageConfig(
        key=os.environ.get("AWS_ACCESS_KEY_ID", ""),
        secret=os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
        region=os.environ.get("AWS_DEFAULT_REGION", ""),
    )
    proxy, rng = FaultProxy(given.endpoint, seed=given.seed), random.Random(given.seed)
    done = []
    with proxy.serving():
        bucket = f"s3://{given.bucket}/{uuid.uuid4().hex[:8]}"
        field = StoreField(proxy, bucket, credentials, images=given.images)
        for number in range(given.trials):
            kind, round_ = KINDS[number % len(KINDS)], number // len(KINDS)
            kill = KILLS[round_ % len(KILLS)] if given.kills else ""
            moment = rng.uniform(0.1, 0.9)
            done.append(disturb(field, number, kind, given.share, kill=kill, moment=moment))
            trial = done[-1]
            state = "; ".join(trial.wrong) or "as it should be"
            print(
                f"{trial.number:4} {trial.kind:34} {trial.kill:6} {trial.spoilt:4} spoilt "
                f"{trial.runs} runs {trial.retries:4} retries {trial.seconds:6} s  {state}",
                flush=True,
            )
    return tell_trials(done, given.json)


if __name__ == "__main__":
    sys.exit(main())
