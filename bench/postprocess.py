"""From a model's logits to segments: ours against transformers' own functions on the same device.

    python -m bench.postprocess --device cuda [--json FILE]   # kernels, batches of 8
    python -m bench.postprocess --device cuda --profile       # where ours spends its time
    python -m bench.postprocess --device cpu                  # one thread, batches of 1 and 8

Ours ends with COCO's strings, areas and boxes on the host; theirs with maps on the device, and is
timed a second time with pycocotools encoding them. Before anything is timed, the fast way is held
against the plain one and against transformers (bench/postprocess_checks.py).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch

from bench.postprocess_checks import check_paths, check_peers
from bench.postprocess_data import (
    CATEGORIES,
    LIMITS,
    MASK2FORMER,
    ONEFORMER,
    SEGFORMER,
    SIZES,
    THINGS,
    Hw,
    answer_of,
    dense_outputs,
    query_outputs,
)
from pipeline.models.grids.maps import LabelMap, MaskStack
from pipeline.models.postprocess.backend import path_for
from pipeline.models.postprocess.encode import segments_of
from pipeline.models.postprocess.instance import merge_instance
from pipeline.models.postprocess.panoptic import merge_panoptic
from pipeline.models.postprocess.semantic import merge_semantic, query_semantic

ISTHING = [index < THINGS for index in range(CATEGORIES)]
STUFF = {index for index in range(CATEGORIES) if not ISTHING[index]}
COLUMNS = (
    "task | picture | logits | batch | ours ms | of it merging | theirs ms | theirs with strings ms"
    " | peer | ratio | ours MB | theirs MB"
)

Merge = Callable[[], Sequence[LabelMap | MaskStack]]
Case = tuple[str, Merge, str, Callable[[], Any]]
"""Task, our merge, name of the peer, its function."""


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds a batch; megabytes at most beyond the logits, on a GPU."""

    task: str
    picture: str
    logits: str
    batch: int
    ours: float
    ours_merge: float
    theirs: float
    theirs_with_strings: float | None
    peer: str
    ratio: float
    ours_mb: float | None
    theirs_mb: float | None

    def line(self) -> str:
        """Of the table."""
        strings, ours_mb, theirs_mb = (
            "" if value is None else f"{value:.0f}"
            for value in (self.theirs_with_strings, self.ours_mb, self.theirs_mb)
        )
        return (
            f"| {self.task} | {self.picture} | {self.logits} | {self.batch} | {self.ours:.2f} | "
            f"{self.ours_merge:.2f} | {self.theirs:.1f} | {strings} | {self.peer} | "
            f"{self.ratio:.1f}× | {ours_mb} | {theirs_mb} |"
        )


def main() -> None:
    """Checks, then times."""
    parser = argparse.ArgumentParser(description="Logits to segments, ours and theirs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="writes the figures there")
    parser.add_argument("--minutes", type=float, default=3.4, help="nothing is begun after that")
    parser.add_argument(
        "--profile", action="store_true", help="PyTorch's profile of ours, no table"
    )
    given = parser.parse_args()
    deadline = time.monotonic() + 60 * given.minutes
    torch.set_grad_enabled(False)
    device = torch.device(given.device)
    cuda = device.type == "cuda"
    if not cuda:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
    name = torch.cuda.get_device_name(device) if cuda else "CPU, one thread"
    print(f"{name}, torch {torch.__version__}, path {path_for(device)!r}")
    if given.profile:
        _profile(device)
        return
    kinds = ("regions", "noise")
    verdicts = [_checked(device, hw, logits) for hw in SIZES for logits in kinds]
    print(f"\n| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}")
    rows = []
    for batch in (8,) if cuda else (1, 8):
        for hw in SIZES:
            for logits in kinds if batch == 1 or cuda else kinds[:1]:
                for case in _cases(device, hw, logits, batch):
                    if time.monotonic() > deadline:
                        print(
                            f"| {case[0]} | {hw[0]}×{hw[1]} | {logits} | {batch} | no time left |"
                        )
                        continue
                    rows.append(_timed(case, device, hw, logits, batch))
                    print(rows[-1].line(), flush=True)
    if given.json:
        report = {"device": name, "torch": torch.__version__, "equal": all(verdicts)}
        report["rows"] = [asdict(row) for row in rows]
        given.json.write_text(json.dumps(report, indent=1))
    if not all(verdicts):
        raise SystemExit("not equal: see FAIL above")


def _profile(device: torch.device) -> None:
    """Prints what ten batches of each task take on the host and on the device."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    for task, merge, *_ in _cases(device, (480, 640), "regions", 8)[1:]:
        for _ in range(3):
            segments_of(merge(), category_ids=range(1, CATEGORIES + 1))
        with profile(activities=activities) as seen:
            for _ in range(10):
                segments_of(merge(), category_ids=range(1, CATEGORIES + 1))
        print(f"\n{task}: ten batches of 8 at 480×640")
        for order in ("self_cpu_time_total", f"self_{device.type}_time_total"):
            print(seen.key_averages().table(sort_by=order, row_limit=14, max_name_column_width=50))


def _checked(device: torch.device, hw: Hw, logits: str) -> bool:
    queries = query_outputs(device, hw, 2, noise=logits == "noise")
    maps = dense_outputs(queries)
    what = f"{hw[0]}×{hw[1]} {logits}"
    good = check_paths(queries, maps, what)
    if hw == (480, 640):
        good &= check_peers(queries[0], maps[0], what)
    return good


def _cases(device: torch.device, hw: Hw, logits: str, batch: int) -> list[Case]:
    queries = query_outputs(device, hw, batch, noise=logits == "noise")
    maps = dense_outputs(queries)
    answer = answer_of(queries)
    stacked = SimpleNamespace(logits=torch.stack([one.logits for one in maps]))
    sizes = [hw] * batch

    def panoptic() -> Sequence[LabelMap]:
        return merge_panoptic(queries, isthing=ISTHING, overlap_threshold=0.8, **LIMITS)

    def instance() -> Sequence[MaskStack]:
        return merge_instance(queries, isthing=ISTHING, **LIMITS)

    def semantic() -> Sequence[LabelMap]:
        return merge_semantic([query_semantic(one, per_cell=True) for one in queries])

    def dense() -> Sequence[LabelMap]:
        return merge_semantic(maps)

    def their_panoptic(processor: Any) -> Callable[[], Any]:
        return lambda: processor.post_process_panoptic_segmentation(
            None, answer, target_sizes=sizes, label_ids_to_fuse=STUFF
        )

    def their_instance() -> Any:
        return MASK2FORMER.post_process_instance_segmentation(None, answer, target_sizes=sizes)

    def their_semantic() -> Any:
        return ONEFORMER.post_process_semantic_segmentation(None, answer, target_sizes=sizes)

    def their_dense() -> Any:
        return SEGFORMER.post_process_semantic_segmentation(None, stacked, target_sizes=sizes)

    return [
        ("panoptic", panoptic, "OneFormer", their_panoptic(ONEFORMER)),
        ("panoptic", panoptic, "Mask2Former", their_panoptic(MASK2FORMER)),
        ("instance", instance, "Mask2Former", their_instance),
        ("semantic, queries", semantic, "OneFormer", their_semantic),
        ("semantic, dense", dense, "SegFormer", their_dense),
    ]


def _timed(case: Case, device: torch.device, hw: Hw, logits: str, batch: int) -> Row:
    task, merge, peer, function = case

    def theirs() -> Any:
        with device:  # their instance function makes its maps on the default device
            return function()

    ours, ours_mb, _ = _time(
        lambda: segments_of(merge(), category_ids=range(1, CATEGORIES + 1)), device
    )
    merging, _, _ = _time(merge, device)
    other, other_mb, found = _time(theirs, device)
    strings = None
    if (encode := _encoder()) is not None:
        start = time.perf_counter()
        encode(found)
        strings = other + (time.perf_counter() - start) * 1e3
    return Row(
        task=task,
        picture=f"{hw[0]}×{hw[1]}",
        logits=logits,
        batch=batch,
        ours=ours,
        ours_merge=merging,
        theirs=other,
        theirs_with_strings=strings,
        peer=peer,
        ratio=other / ours,
        ours_mb=ours_mb,
        theirs_mb=other_mb,
    )


def _time(work: Callable[[], Any], device: torch.device) -> tuple[float, float | None, Any]:
    """Milliseconds of a call (CPU: of its thread), megabytes that a GPU held for it, its result."""
    times: list[float] = []
    result: Any = None
    started = time.monotonic()
    if device.type != "cuda":
        while not times or (len(times) < 9 and time.monotonic() - started < 1.5):
            start = time.process_time()
            result = work()
            times.append(time.process_time() - start)
        return min(times) * 1e3, None, result
    for _ in range(3):  # compiles, fills caches
        work()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    while len(times) < 3 or (len(times) < 25 and time.monotonic() - started < 2):
        start = time.perf_counter()
        result = work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    held = (torch.cuda.max_memory_allocated() - before) / 1e6
    return statistics.median(times) * 1e3, held, result


def _encoder() -> Callable[[Any], list[Any]] | None:
    """What makes pycocotools' strings of their answer, as a user would; None without it."""
    try:
        from pycocotools import mask as coco_mask
    except ImportError:
        return None
    coco: Any = coco_mask

    def encode(found: Any) -> list[Any]:
        codes = []
        for each in found:
            labels = (each["segmentation"] if isinstance(each, dict) else each).cpu().numpy()
            for value in np.unique(labels):
                codes.append(coco.encode(np.asfortranarray((labels == value).astype(np.uint8))))
        return codes

    return encode


if __name__ == "__main__":
    main()
