"""The main job from end to end on example pictures: `python -m examples.demo`, or `make demo`.

Each step is a command that works on any folder; the demo only strings them together.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from examples.pictures import gather
from examples.truth import write_truth

DEMO = Path("demo")
CONFIG = Path("jobs") / "configs" / "demo.toml"


def main() -> int:
    """Gathers, labels, validates, evaluates, labels again; returns the exit code."""
    started = time.monotonic()
    shutil.rmtree(DEMO, ignore_errors=True)
    step(
        "Gather pictures", "real ones that scikit-image carries, and simulated fluorescence fields"
    )
    truth = gather(DEMO / "input")
    nuclei = write_truth(
        DEMO / "truth",
        truth,
        category="nucleus",
        about="Truth of the demo: simulated nuclei, and photographs that show none",
    )
    empty = sum(not label_map.any() for label_map in truth.values())
    print(f"{len(truth) - empty} simulated fields with {nuclei} known nuclei")
    print(f"{empty} photographs in which nothing must be found")
    print("4 tiles of a stained tissue section, real, without ground truth")

    step("Label them", "instance, semantic and panoptic output from one panoptic run")
    job("label", "--config", str(CONFIG))
    step("Validate", "every file is read again with pycocotools and held against the rules")
    job("validate", "--dataset", "demo/dataset")
    step("Evaluate", "against the simulated truth and the empty photographs")
    truth_file = "demo/truth/instances.json"
    job("evaluate", "--dataset", "demo/dataset", "--ground-truth", truth_file,
        "--metrics", "matching", "--group-by-folder", "--save")  # fmt: skip
    step("Report", "drawn again, now with these figures")
    job("report", "--dataset", "demo/dataset")
    step("Label again", "the same command: nothing has changed, so nothing is computed")
    job("label", "--config", str(CONFIG))

    step("Done", f"in {time.monotonic() - started:.0f} s; what there is now:")
    show()
    return 0


def step(title: str, what: str) -> None:
    """Announces the next step."""
    print(f"\n── {title}: {what}", flush=True)


def job(name: str, *arguments: str) -> None:
    """Runs `python -m jobs.<name>` in a process of its own, as a user would.

    Raises:
        SystemExit: With the job's exit code, where it is not 0.
    """
    command = ["python", "-m", f"jobs.{name}", *arguments]
    print(f"$ {shlex.join(command)}", flush=True)
    done = subprocess.run([sys.executable, *command[1:]], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def show() -> None:
    """Prints where everything is."""
    dataset = DEMO / "dataset"
    manifest = json.loads((dataset / "manifest.json").read_text(encoding="utf-8"))
    rows = {
        "COCO instances": dataset / "exports" / "coco" / "instances.json",
        "COCO panoptic": dataset / "exports" / "coco" / "panoptic.json",
        "Semantic PNGs": dataset / "exports" / "semantic",
        "Parquet": dataset / "annotations",
        "Ground truth": DEMO / "truth" / "instances.json",
        "HTML report": dataset / "report" / "index.html",
    }
    counts = manifest["counts"]
    print(f"{counts['images']} images, {counts['annotations']} segments, {counts['failed']} failed")
    for title, path in rows.items():
        if not path.exists():
            raise SystemExit(f"{path} is missing")
        print(f"  {title:<15} {path}")
    print(f"\nOpen {(dataset / 'report' / 'index.html').resolve()} in a browser.")


if __name__ == "__main__":
    raise SystemExit(main())
