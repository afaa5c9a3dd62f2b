"""The main job from end to end on example pictures: `python -m examples.demo [FOLDER]`.

Each step is a command that works on any folder; the demo only strings them together.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from examples.pictures import gather
from examples.truth import write_truth
from pipeline.ledger.ledger import open_ledger

CONFIG = "jobs/configs/demo.toml"

OTHERS = (
    ("everything in everyday photos", "--model oneformer-swin-l-coco"),
    ("streets", "--model mask2former-swin-l-cityscapes-panoptic"),
    ("rooms and scenes, fast", "--model segformer-b0-ade"),
    ("objects one by one", "--model rf-detr-seg-s-coco"),
    ("what words name", '--model grounding-dino-tiny+sam-vit-b --prompt "traffic light"'),
    ("masks for boxes that you have", "--model sam-vit-b --prompts boxes.json"),
    ("everything, without names", "--model sam2.1-hiera-tiny"),
    ("everything that looks like words", '--model sam-vit-b+clip-vit-b-32 --prompt "a bird"'),
)
"""What is wanted → how the same command reads with another family."""


def main(folder: str = "demo") -> int:
    """Gathers, labels, validates, evaluates, labels again under `folder`; returns the exit code."""
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    pictures, truth, dataset = (f"{folder}/{name}" for name in ("input", "truth", "dataset"))

    step(
        "Gather pictures", "real ones that scikit-image carries, and simulated fluorescence fields"
    )
    known = gather(Path(pictures))
    nuclei = write_truth(
        Path(truth),
        known,
        category="nucleus",
        about="Truth of the demo: simulated nuclei, and photographs that show none",
    )
    empty = sum(not label_map.any() for label_map in known.values())
    print(f"{len(known) - empty} simulated fields with {nuclei} known nuclei")
    print(f"{empty} photographs in which nothing must be found")
    print("4 tiles of a stained tissue section, real, without ground truth")

    label = ("label", "--config", CONFIG, "--input", pictures, "--output", dataset)
    step("Label them", "one panoptic run gives instance, semantic and panoptic output")
    job(*label)
    step("Validate", "every file is read again and held against the rules")
    job("validate", "--dataset", dataset)
    step("Evaluate", "against the simulated truth and the photographs that show nothing")
    figures = ("--metrics", "matching", "--group-by-folder", "--save")
    job("evaluate", "--dataset", dataset, "--ground-truth", f"{truth}/instances.json", *figures)
    step("Report", "drawn again, now with these figures")
    job("report", "--dataset", dataset)
    step("Label again", "the same command: nothing has changed, so nothing is computed")
    job(*label)

    second_act(folder)

    step("Done", f"in {time.monotonic() - started:.0f} s; what there is now:")
    show(Path(dataset), f"{truth}/instances.json")
    return 0


def second_act(folder: str) -> None:
    """Says what the models that ship cannot do, and how the same command reads with others."""
    step(
        "Second act",
        "your photos. unet-nuclei knows nuclei, otsu what is bright: neither does these",
    )
    for wanted, words in OTHERS:
        print(f"  {wanted:<34} maskmill label --input photos/ --output out/ {words}")
    print("These weights are fetched when they are first asked for. What each family finds:")
    job("models", "--book", f"{folder}/models.html")


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


def show(dataset: Path, truth: str) -> None:
    """Prints where everything is.

    Raises:
        SystemExit: Something is not there.
    """
    rows = {
        "COCO instances": dataset / "exports" / "coco" / "instances.json",
        "COCO panoptic": dataset / "exports" / "coco" / "panoptic.json",
        "Semantic PNGs": dataset / "exports" / "semantic",
        "Parquet, images": dataset / "images",
        "Parquet, segments": dataset / "annotations",
        "Ground truth": Path(truth),
        "Picture book": dataset.parent / "models.html",
        "HTML report": dataset / "report" / "index.html",
    }
    found: Counter[str] = Counter()
    images: Counter[str] = Counter()
    for image, segments in open_ledger(str(dataset)).rows():
        folder = image["file_name"].partition("/")[0]
        images[folder] += 1
        found[folder] += sum(segment["isthing"] for segment in segments)
    for folder, count in sorted(images.items()):
        print(f"  {folder:<18} {count} images, {found[folder]} nuclei found")
    for title, path in rows.items():
        if not path.exists():
            raise SystemExit(f"{path} is missing")
        print(f"  {title:<18} {path}")
    print(f"\nOpen {rows['HTML report'].resolve()} in a browser.")


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
