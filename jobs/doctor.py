"""python -m jobs.doctor: what this machine has, and what is missing."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from jobs.console import FAILED, exit_codes

app = typer.Typer(add_completion=False)

LEAST = {"torch": (2, 11), "transformers": (5, 17), "ray": (2, 54)}
EXTRAS = {
    "fast-eval": "faster_coco_eval",
    "heif": "pillow_heif",
    "dicom": "pydicom",
    "geo": "pyproj",
    "gpu-fast": "triton",
    "onnx": "onnxruntime",
    "train": "pandas",
}
"""Extra of this package → the module that it brings."""

_NEEDED_GB = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: Its name.
        found: What is there.
        cure: What to do; "" where all is well.
        fatal: Without it nothing can be labelled.
    """

    what: str
    found: str
    cure: str = ""
    fatal: bool = False


@app.command(epilog="Example: python -m jobs.doctor")
def main(
    as_json: Annotated[bool, typer.Option("--json", help="Plain data.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks.")] = False,
) -> None:
    """Say which Python, torch, GPU, Ray, extras, cache and disk are here and what is missing.

    Exit code 1 where something is missing without which nothing can be labelled.
    """
    with exit_codes(verbose=verbose):
        findings = list(examine())
        if as_json:
            typer.echo(json.dumps([asdict(item) for item in findings], indent=1))
        else:
            for item in findings:
                mark = "✗" if item.fatal else "–" if item.cure else "✓"
                cure = f"  → {item.cure}" if item.cure else ""
                typer.echo(f"{mark} {item.what:<16} {item.found}{cure}")
        if any(item.fatal for item in findings):
            raise typer.Exit(FAILED)


def examine() -> Iterator[Finding]:
    """Looks at everything that a run needs; imports no torch but for the GPU's sake."""
    yield Finding("maskmill", _version("maskmill") or "run from its sources")
    python = platform.python_version()
    old = sys.version_info < (3, 11)
    yield Finding("Python", python, "3.11 or newer is needed" if old else "", fatal=old)
    for name, least in LEAST.items():
        yield _library(name, least)
    yield from _torch()
    for extra, module in EXTRAS.items():
        here = importlib.util.find_spec(module) is not None
        cure = "" if here else f"pip install 'maskmill[{extra}]' if you need it"
        yield Finding(f"[{extra}]", module if here else "not installed", cure)
    yield _cache()
    yield _disk()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("processors", str(cores))


def _library(name: str, least: tuple[int, int]) -> Finding:
    version = _version(name)
    wanted = ".".join(map(str, least))
    if version is None:
        return Finding(name, "missing", f"pip install '{name}>={wanted}'", fatal=True)
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    if numbers < least:
        return Finding(name, version, f"pip install '{name}>={wanted}'", fatal=True)
    return Finding(name, version)


def _torch() -> Iterator[Finding]:
    if _version("torch") is None:
        return
    try:
        import torch
        import torchvision  # noqa: F401 (a build that does not fit torch fails here)
    except Exception as error:  # whatever a broken build raises
        cure = "install torch and torchvision of one release from one place"
        yield Finding("torch loads", str(error).splitlines()[0], cure, fatal=True)
        return
    if not torch.cuda.is_available():
        built = torch.version.cuda or "no CUDA"
        yield Finding("GPU", f"none (torch is built for {built})", "models run on the CPU")
        return
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        memory = f"{facts.total_memory / 2**30:.0f} GB"
        yield Finding(f"GPU {index}", f"{facts.name}, {memory}, CUDA {torch.version.cuda}")


def _cache() -> Finding:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    if not folder.is_dir():
        return Finding("model cache", f"{folder}, not there yet")
    models = sum(1 for item in folder.iterdir() if item.name.startswith("models--"))
    return Finding("model cache", f"{folder}, {models} models")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    cure = "" if free >= _NEEDED_GB else "a dataset with its report wants more"
    return Finding("disk here", f"{free:.0f} GB free", cure)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    app()
