"""The main command as its users run it: own processes, a real cluster, kill -9."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pictures import write_pictures
from ray_cluster import RayCluster
from typer.testing import CliRunner

from jobs.label import app
from schemas.config.job import JobConfig
from schemas.manifest import DatasetManifest

ROOT = Path(__file__).resolve().parents[2]


def command(folder: Path, *more: str, output: str = "out") -> list[str]:
    return [
        *(sys.executable, "-m", "jobs.label", "--input", str(folder / "in")),
        *("--output", str(folder / output), "--model", "otsu", *more),
    ]


def call(
    folder: Path, *more: str, output: str = "out", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *more, output=output),
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def published(folder: Path, output: str) -> dict[str, bytes]:
    """The files of the current version and of its exports."""
    root = folder / output
    manifest = json.loads((root / "manifest.json").read_bytes())
    parts = [
        root / t / f"{p['name']}.parquet"
        for p in manifest["parts"]
        for t in ("images", "annotations")
    ]
    exports = [p for p in (root / "exports").rglob("*") if p.is_file()]
    paths = [root / "manifest.json", *parts, *exports]
    return {str(p.relative_to(root)): p.read_bytes() for p in paths}


def engine(folder: Path) -> str:
    """Where the last run worked."""
    return json.loads((folder / "out/run.json").read_bytes())["engine"]


def test_label_then_nothing_changed(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 8)
    first = call(tmp_path, "--inline")
    assert first.returncode == 0, first.stderr
    assert "8 computed" in first.stdout
    assert (tmp_path / "out/exports/coco/instances.json").is_file()
    assert (tmp_path / "out/exports/coco/panoptic.json").is_file()
    assert (tmp_path / "out/report/index.html").is_file()
    assert "8/8 images" in first.stderr
    again = call(tmp_path, "--inline")
    assert again.returncode == 0
    assert "device busy" in first.stdout
    assert "device busy" not in again.stdout
    assert "nothing changed" in again.stdout


def test_config_file_set_and_flags_lie_over_each_other(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 2)
    file = tmp_path / "job.toml"
    file.write_text('task = "instance"\n[model]\nname = "otsu"\nthreshold = 0.2\n')
    done = call(
        tmp_path,
        *("--config", str(file), "--set", "model.threshold=0.4", "--task", "semantic", "--inline"),
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    assert manifest["tasks"] == ["semantic"]
    assert manifest["config"]["model"]["threshold"] == 0.4


def test_inline_lies_over_the_engine_of_a_file(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 1)
    file = tmp_path / "job.toml"
    file.write_text('[execution]\nengine = "ray"\n')
    done = call(tmp_path, "--config", str(file), "--inline", "--no-report")
    assert done.returncode == 0, done.stderr
    assert engine(tmp_path) == "inline"


def test_flags_are_the_keys_they_stand_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[JobConfig] = []

    def noted(config: JobConfig, **_: object) -> None:
        seen.append(config)
        raise ValueError("far enough")

    monkeypatch.setattr("jobs.label.label", noted)
    base = ["--input", "in", "--output", "out", "--model", "m", "-q"]
    flags = ["--tile-size", "512", "--tile-overlap", "32", "--tta"]
    sets = ["tiling.size=512", "tiling.overlap=32", 'model.tta.flips=["horizontal"]']
    for words in (
        [*flags, "--task", "panoptic", "--task", "semantic"],
        [*flags, "--task", "semantic,panoptic"],
        [word for key in (*sets, "task=panoptic, semantic") for word in ("--set", key)],
    ):
        assert CliRunner().invoke(app, [*base, *words]).exit_code == 2
    assert seen[0] == seen[1] == seen[2]
    assert seen[0].task == ("semantic", "panoptic")
    assert (seen[0].tiling.size, seen[0].tiling.overlap) == (512, 32)
    assert seen[0].model.tta.flips == ("horizontal",)
    assert CliRunner().invoke(app, base).exit_code == 2
    assert seen[3].model.tta.flips == ()


def test_several_tasks_at_once(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 2)
    done = call(tmp_path, "--inline", "--task", "panoptic", "--task", "semantic")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    assert manifest["tasks"] == ["semantic", "panoptic"]
    found = DatasetManifest.from_json((tmp_path / "out/manifest.json").read_bytes())
    semantic, panoptic = (found.view(task).objects for task in found.tasks)
    assert f"(semantic {semantic}, panoptic {panoptic})" in done.stdout
    for file in ("coco/instances.json", "coco/panoptic.json", "semantic/categories.json"):
        assert (tmp_path / "out/exports" / file).is_file()
    assert "panoptic segmentation by" in (tmp_path / "out/report/index.html").read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model", "unet-nucle"], "did you mean 'unet-nuclei'"),
        (["--task", "panotic"], "did you mean 'panoptic'"),
        (["--set", "model.treshold=1"], "did you mean 'threshold'"),
        (["--set", "nonsense"], "expected section.key=value"),
        (["--input", "/no/such/place"], "/no/such/place"),
        (["--max-failures", "many"], "max_failures"),
        (["--config", "/no/file.toml"], "/no/file.toml"),
        (["--output", "/proc/nothing"], "/proc/nothing"),
    ],
)
def test_bad_usage_exits_2_with_one_line(tmp_path: Path, more: list[str], message: str) -> None:
    write_pictures(tmp_path / "in", 1)
    done = call(tmp_path, "--inline", *more)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if not line[:2].isdigit()]
    assert len(errors) == 1, done.stderr
    assert message in errors[0]


def test_too_many_failures_exit_1_and_readers_keep_what_they_had(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 2)
    assert call(tmp_path, "--inline", "--no-report").returncode == 0
    before = published(tmp_path, "out")
    (tmp_path / "in/bro\x1b[31mken.jpg").write_bytes(b"\xff\xd8\xff")
    for _ in range(2):
        done = call(tmp_path, "--inline", "--no-report", "-q", "--max-failures", "0")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: 1 images failed, 0 allowed")
        assert "bro\\x1b[31mken.jpg: truncated:" in done.stderr.splitlines()[-2]
        assert published(tmp_path, "out") == before
    done = call(tmp_path, "--inline", "--no-report", "--max-failures", "1")
    assert done.returncode == 0
    assert "0 computed" in done.stdout
    assert json.loads((tmp_path / "out/manifest.json").read_bytes())["counts"]["failed"] == 1


def test_kill_the_driver_and_workers_and_go_on(tmp_path: Path, ray_cluster: RayCluster) -> None:
    """Byte-identical to an undisturbed run, however often it was killed."""
    write_pictures(tmp_path / "in", 60)
    options = ("--no-report", "--set", "execution.shard_size=2", "--workers", "2")
    calm = call(tmp_path, *options, "--inline", output="calm")
    assert calm.returncode == 0, calm.stderr
    rng = random.Random(5)
    receipts = tmp_path / "out/receipts"
    for target in ("driver", "worker"):
        log = (tmp_path / "log").open("w+")
        process = subprocess.Popen(
            command(tmp_path, *options),
            cwd=ROOT,
            env=ray_cluster.environment(),
            stdout=log,
            stderr=log,
        )
        before = len(list(receipts.glob("*"))) if receipts.exists() else 0
        goal = before + rng.randint(1, 8)
        deadline = time.monotonic() + 90
        while process.poll() is None and time.monotonic() < deadline:
            if receipts.exists() and len(list(receipts.glob("*"))) >= goal:
                break
            time.sleep(0.002)
        if target == "driver":
            process.kill()
        else:
            for worker in ray_cluster.workers():
                os.kill(worker, signal.SIGKILL)
            assert process.wait(120) == 0, (tmp_path / "log").read_text()  # the run goes on
        process.wait(120)
    last = call(tmp_path, *options, env=ray_cluster.environment())
    assert last.returncode == 0, last.stderr
    assert engine(tmp_path) == "ray"
    assert published(tmp_path, "out") == published(tmp_path, "calm")


def test_ctrl_c_exits_3_and_the_same_command_goes_on(
    tmp_path: Path, ray_cluster: RayCluster
) -> None:
    write_pictures(tmp_path / "in", 200)
    options = ("--no-report", "--no-export", "--set", "execution.shard_size=2", "--workers", "1")
    process = subprocess.Popen(
        command(tmp_path, *options),
        cwd=ROOT,
        env=ray_cluster.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    receipts = tmp_path / "out/receipts"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if receipts.exists() and any(receipts.iterdir()):
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    again = call(tmp_path, *options, "--inline")
    assert again.returncode == 0
    computed = int(again.stdout.split("(")[1].split(" computed")[0])
    assert 0 < computed < 200


def test_inside_ray_job_submit(tmp_path: Path, ray_cluster: RayCluster) -> None:
    """The primary cluster path: the repository is the working dir, shipped to the cluster."""
    from ray.job_submission import JobStatus, JobSubmissionClient

    write_pictures(tmp_path / "in", 6)
    client = JobSubmissionClient(ray_cluster.jobs)
    entrypoint = " ".join(command(tmp_path, "--no-report", "--workers", "2"))
    job = client.submit_job(entrypoint=entrypoint, runtime_env={"working_dir": str(ROOT)})
    deadline = time.monotonic() + 120
    while not (status := client.get_job_status(job)).is_terminal():
        assert time.monotonic() < deadline, client.get_job_logs(job)
        time.sleep(0.5)
    assert status == JobStatus.SUCCEEDED, client.get_job_logs(job)
    assert "6 computed" in client.get_job_logs(job)
    assert engine(tmp_path) == "ray"
    call(tmp_path, "--inline", "--no-report", output="inline")
    assert published(tmp_path, "out") == published(tmp_path, "inline")
