"""Forward passes on a GPU: ours against the library's own, compiled, in bfloat16.

    python -m bench.forwards                          # on a GPU, about 6 minutes
    python -m bench.forwards --small --device cpu     # tiny networks, a smoke test

Each network (published size, random weights) has a process of its own. They compile side by side,
which is work for the CPU, then take turns on the GPU: rounds of theirs and ours interleaved, the
median and the spread of the rounds. Theirs is `torch.compile(model, dynamic=False)` with bfloat16
weights, or under autocast where the library's code does not run with them. The share of the card
is that of the rate of an 8192³ bfloat16 product measured in the same run; operations are counted
by PyTorch in the library's float32 pass. Errors are relative to that pass, on noise.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Call = Callable[[], Any]

NAMES = (
    "deformable-kernel",
    "mask2former-swin-large",
    "oneformer-swin-large",
    "mask2former-swin-tiny",
    "grounding-dino-tiny",
    "segformer-b5",
    "eomt-large",
    "eomt-large-unmasked",
)
HW = {"segformer-b5": (640, 640), "eomt-large": (640, 640), "eomt-large-unmasked": (640, 640)}
ROUNDS = 5


@dataclass(slots=True)
class Contest:
    """One network on both sides.

    Attributes:
        plain: The library's float32 pass, whose operations are counted.
        theirs: The library's way, compiled.
        ours: Way → our pass.
        answers: Pulls comparable tensors out of an answer of either side.
    """

    plain: Call
    theirs: Call
    ours: dict[str, Call]
    answers: Callable[[Any], list[Tensor]]
    pictures: int


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny networks and pictures")
    parser.add_argument("--names", default=",".join(NAMES), help="some of them, comma separated")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--ready", type=float, default=260, help="seconds to wait for compilers")
    parser.add_argument("--seconds", type=float, default=420, help="all is ended after that")
    parser.add_argument("--logs", type=Path, default=Path("forwards"))
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given)
        return
    given.logs.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    names = given.names.split(",")
    running = {name: launched(name, given) for name in names}
    while time.monotonic() - start < given.ready and any(
        process.poll() is None and not ready(given, name).exists()
        for name, process in running.items()
    ):
        time.sleep(0.5)
    print(f"compiled for {time.monotonic() - start:.0f} s", flush=True)
    (given.logs / "go").touch()
    for name, process in running.items():
        try:
            process.wait(max(1.0, given.seconds - (time.monotonic() - start)))
        except subprocess.TimeoutExpired:
            process.terminate()
            print(f"{name}: no time left", flush=True)
    print(
        f"\n| network | way | ms an image | images/s | spread | of the card | against theirs |{''}"
    )
    print("|---|---|---|---|---|---|---|")
    for name in names:
        table = given.logs / f"{name}.table"
        print(table.read_text().rstrip() if table.exists() else f"| {name} | failed, see its log |")


def launched(name: str, given: argparse.Namespace) -> subprocess.Popen[bytes]:
    """A worker; its log lies beside the others'."""
    command = [sys.executable, "-m", "bench.forwards", "--worker", name, "--device", given.device]
    command += ["--batch", str(given.batch), "--logs", str(given.logs)]
    command += ["--small"] if given.small else []
    environment = os.environ | {
        "TORCHINDUCTOR_COMPILE_THREADS": "3",
        "OMP_NUM_THREADS": "2",
        "TRANSFORMERS_DISABLE_TORCH_CHECK": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with (given.logs / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def ready(given: argparse.Namespace, name: str) -> Path:
    """Appears when a worker has compiled."""
    return given.logs / f"{name}.ready"


@contextmanager
def turn(given: argparse.Namespace, name: str) -> Iterator[None]:
    """Waits until all have compiled, and until the GPU is free."""
    ready(given, name).touch()
    while not (given.logs / "go").exists():
        time.sleep(0.2)
    with alone(given, "turn"):
        yield


@contextmanager
def alone(given: argparse.Namespace, what: str) -> Iterator[None]:
    """One process at a time; float32 passes of all at once would not fit."""
    with (given.logs / what).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def work(name: str, given: argparse.Namespace) -> None:
    """One network, from building to its lines of the table."""
    logging.basicConfig(level=logging.INFO)
    torch.manual_seed(0)
    lines: list[str] = []
    if name == "deformable-kernel":
        kernel(given, lines)
    else:
        network(name, given, lines)
    (given.logs / f"{name}.table").write_text("\n".join(lines) + "\n")


def network(name: str, given: argparse.Namespace, lines: list[str]) -> None:
    """Compiles both sides, then times them in rounds."""
    from torch.utils.flop_counter import FlopCounterMode

    contest = CONTESTS[name](name, given)
    with torch.inference_mode():
        with alone(given, "plain"), FlopCounterMode(display=False) as counter:
            wanted = contest.answers(contest.plain())
            free(given)
        print("TFLOP an image", counter.get_total_flops() / contest.pictures / 1e12)
        ways = {"theirs, compiled": contest.theirs, **contest.ours}
        for way in list(ways)[::-1]:
            start = time.monotonic()
            try:
                found = contest.answers(ways[way]())
                ways[way]()
                errors = [relative(one, other) for one, other in zip(found, wanted, strict=True)]
                print(f"{way}: ready in {time.monotonic() - start:.1f} s, errors {errors}")
            except Exception:
                traceback.print_exc()
                print(f"{way}: failed")
                del ways[way]
            free(given)
        with turn(given, name):
            rate = matrix_rate(given)
            share = counter.get_total_flops() / contest.pictures / rate / 1e12
            rounds: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(ROUNDS):
                for way, call in ways.items():
                    rounds[way].append(milliseconds(call, given) / contest.pictures)
            first = statistics.median(rounds.get("theirs, compiled", [float("nan")]))
            for way, times in rounds.items():
                middle = statistics.median(times)
                lines.append(
                    f"| {name} | {way} | {middle:.3f} | {1000 / middle:.1f} "
                    f"| {min(times):.3f} to {max(times):.3f} "
                    f"| {share * 1000 / middle:.1%} | {first / middle:.2f}× |"
                )
            print("\n".join(lines))
            for way in list(ways)[1:]:
                profile(ways[way], given.logs / f"{name}.{way.split(',')[-1].strip()}.profile")


def profile(call: Call, path: Path) -> None:
    """Writes which kernels take the time of one call."""
    if not torch.cuda.is_available():
        return
    kinds = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as seen:
        call()
        torch.cuda.synchronize()
    path.write_text(seen.key_averages().table("self_cuda_time_total", row_limit=30))


def relative(found: Tensor, wanted: Tensor) -> float:
    """‖found − wanted‖ / ‖wanted‖, in float64."""
    return round(float((found.double() - wanted.double()).norm() / wanted.double().norm()), 5)


def free(given: argparse.Namespace) -> None:
    """Gives memory back for the others."""
    if given.device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def milliseconds(call: Call, given: argparse.Namespace, seconds: float = 0.5) -> float:
    """Of one call, over as many as take half a second."""
    if given.device == "cpu":
        start = time.perf_counter()
        call()
        return 1000 * (time.perf_counter() - start)
    for _ in range(2):
        call()
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start, count = time.perf_counter(), 0
    begin.record()
    while time.perf_counter() - start < seconds:
        call()
        count += 1
        if count % 4 == 0:
            torch.cuda.synchronize()  # the clock must not run ahead of the GPU
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / count


def matrix_rate(given: argparse.Namespace) -> float:
    """TFLOP/s of an 8192³ bfloat16 product."""
    if given.device == "cpu":
        return 1.0
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    rate = 2 * 8192**3 / 1e9 / milliseconds(lambda: a @ b, given)
    print(f"8192³ product: {rate:.0f} TFLOP/s")
    return rate


def half(model: Any) -> Any:
    """The library's network with bfloat16 weights."""
    return deepcopy(model).to(torch.bfloat16)


def their_way(model: Any, call: Callable[[Any, Tensor], Any], pixels: Tensor) -> Call:
    """Compiled with bfloat16 weights; under autocast where that does not run."""
    lowered, small = half(model), pixels.bfloat16()
    device = pixels.device.type
    scope: Any = nullcontext()
    try:
        call(lowered, small)
    except (RuntimeError, ValueError) as error:
        print("theirs runs under autocast, since with bfloat16 weights:", error)
        lowered, small = model, pixels
        scope = torch.autocast(device, torch.bfloat16)
    compiled = torch.compile(lowered, dynamic=False)

    def run() -> Any:
        with scope:
            return call(compiled, small)

    return run


def options(given: argparse.Namespace, *, compiled: bool, dtype: str = "auto") -> Any:
    from schemas.config.model import ModelConfig

    return ModelConfig(
        name="bench",
        batch_size=given.batch,
        device=given.device,
        compile=compiled,
        dtype=dtype,  # pyright: ignore[reportArgumentType]
    )


def our_ways(given: argparse.Namespace, build: Callable[[Any], Call]) -> dict[str, Call]:
    """Recorded, compiled by block and recorded, and in float32 for the error alone."""
    return {
        "ours, recorded": build(options(given, compiled=False)),
        "ours, compiled": build(options(given, compiled=True)),
    }


def noise(name: str, given: argparse.Namespace) -> Tensor:
    """B×3×h×w, as normalised pictures are; 480×640 pictures fitted to 800 × 1333 are 800×1088."""
    hw = (96, 128) if given.small else HW.get(name, (800, 1088))
    return torch.randn(given.batch, 3, *hw, device=given.device)


def universal(name: str, given: argparse.Namespace) -> Contest:
    """Mask2Former, OneFormer and SegFormer, as bench.families has them."""
    from bench.families import our_net
    from bench.family_nets import CASES

    case = CASES[name](given.small)
    case.model.eval().requires_grad_(False).to(given.device)
    pixels = noise(name, given)
    tokens = torch.randint(0, 400, (1, 77), device=given.device).expand(given.batch, -1)
    takes_task = hasattr(case.model, "model") and hasattr(case.model.model, "task_encoder")
    extra = {"task_inputs": tokens} if takes_task else {}
    plain = deepcopy(case.model)

    def call(model: Any, some: Tensor) -> Any:
        return model(some, **{key: value.to(some.dtype) for key, value in extra.items()})

    def build(chosen: Any) -> Call:
        if takes_task:
            from pipeline.models.oneformer import OneFormerNet

            inner = deepcopy(case.model.model)
            net: Any = OneFormerNet(inner, tokens[:1].float(), (case.task,), chosen)
        else:
            net, _ = our_net(_copied(case), given.device, chosen)
        return lambda: net._forward(pixels)

    def answers(answer: Any) -> list[Tensor]:
        if isinstance(answer, tuple) and not hasattr(answer, "keys"):
            return [answer[0].float()]
        return [(answer.logits if case.task == "semantic" else answer.class_queries_logits).float()]

    return Contest(
        lambda: call(plain, pixels),
        their_way(plain, call, pixels),
        our_ways(given, build),
        answers,
        given.batch,
    )


def _copied(case: Any) -> Any:
    from dataclasses import replace

    return replace(case, model=deepcopy(case.model))


def eomt(name: str, given: argparse.Namespace) -> Contest:
    """EoMT-L, COCO panoptic at 640²; random ones mask attention in four layers, published none."""
    import transformers as hf

    from pipeline.models.eomt import eomt_net

    small: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 2}
    large: dict[str, Any] = {"hidden_size": 1024, "num_hidden_layers": 24}
    large |= {"num_attention_heads": 16}
    config = hf.EomtConfig(
        image_size=96 if given.small else 640,
        num_queries=20 if given.small else 200,
        num_blocks=4,
        id2label=dict(enumerate(map(str, range(133)))),
        **(small if given.small else large),
    )
    model: Any = hf.EomtForUniversalSegmentation(config).eval().requires_grad_(False)
    model.to(given.device)
    masked = [float(not name.endswith("unmasked"))] * 4
    del model.attn_mask_probs
    model.attn_mask_probs = masked
    side = config.image_size
    pixels = torch.randn(given.batch, 3, side, side, device=given.device)

    def build(chosen: Any) -> Call:
        net = eomt_net(deepcopy(model), device=given.device, options=chosen)
        return lambda: net._forward(pixels)

    def answers(answer: Any) -> list[Tensor]:
        classes = answer[0] if type(answer) is tuple else answer.class_queries_logits
        return [classes.float()]

    return Contest(
        lambda: model(pixels),
        their_way(model, lambda net, some: net(some), pixels),
        our_ways(given, build),
        answers,
        given.batch,
    )


def grounding(name: str, given: argparse.Namespace) -> Contest:
    """Grounding DINO tiny, a text of three phrases."""
    from types import SimpleNamespace

    from bench.text_nets import detector
    from pipeline.models.grounding_dino import PhraseFinder
    from pipeline.models.text.phrases import Chunk

    model = detector("small" if given.small else "tiny").eval().requires_grad_(False)
    model.to(given.device)
    pixels = noise(name, given)
    ids = [101, 4937, 1012, 3899, 1012, 2417, 2482, 1012, 102]
    tokens = torch.tensor([ids], device=given.device).expand(given.batch, -1)

    def call(net: Any, some: Tensor) -> Any:
        return net(pixel_values=some, input_ids=tokens)

    def build(chosen: Any) -> Call:
        asking: Any = SimpleNamespace(text_threshold=None, least=0.0, phrases=["a", "b", "c"])
        chunk: Any = Chunk.__new__(Chunk)
        for key, value in (("phrases", (0, 1, 2)), ("tokens", ids)):
            object.__setattr__(chunk, key, value)
        object.__setattr__(chunk, "spans", ((1, 2), (3, 4), (5, 7)))
        finder = PhraseFinder(deepcopy(model), [chunk], asking, options=chosen)
        given_pixels = pixels.to(finder._dtype or torch.float32)

        def run() -> Any:
            answer = finder._of_text(given_pixels, 0)
            finder._pictures.forget()
            return answer

        return run

    def answers(answer: Any) -> list[Tensor]:
        if isinstance(answer, Tensor):  # picture, box, score of each phrase
            return [answer[:, 5:].view(given.batch, -1, 3)[..., 0].float()]
        scores = answer.logits[..., : len(ids)].float().sigmoid()
        return [scores[..., 1]]

    return Contest(
        lambda: call(model, pixels),
        their_way(model, call, pixels),
        our_ways(given, build),
        answers,
        given.batch,
    )


CONTESTS: dict[str, Callable[[str, argparse.Namespace], Contest]] = {
    "mask2former-swin-tiny": universal,
    "mask2former-swin-large": universal,
    "oneformer-swin-large": universal,
    "segformer-b5": universal,
    "eomt-large": eomt,
    "eomt-large-unmasked": eomt,
    "grounding-dino-tiny": grounding,
}


def kernel(given: argparse.Namespace, lines: list[str]) -> None:
    """Deformable attention by itself: right, and how fast in which size of program."""
    from pipeline.models.kernels.deformable import attend_levels
    from pipeline.models.network.deformable import sample_levels

    sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "support"))
    if given.device != "cpu":
        from deformable_checks import check  # pyright: ignore[reportMissingImports]

        check(given.device)
        print("equal to the plain formula")
    shapes = [4, 5, 8, 10, 16, 20] if given.small else [25, 34, 50, 68, 100, 136]
    cells = sum(shapes[at] * shapes[at + 1] for at in range(0, len(shapes), 2))
    values = torch.randn(given.batch, cells, 8, 32, device=given.device, dtype=torch.bfloat16)
    points = torch.randn(given.batch, cells, 3 * 8 * 3 * 4, device=given.device)
    points = (2 * points).bfloat16()  # cells: trained offsets are mostly below five
    from pipeline.models.network.pixel_decoder import cell_middles

    pairs = [(shapes[at], shapes[at + 1]) for at in range(0, len(shapes), 2)]
    middles = cell_middles(pairs, values.device).expand(given.batch, -1, -1, -1)
    sizes = ((8, 1), (16, 1), (16, 2), (32, 1), (32, 2), (32, 4), (64, 2), (64, 4), (128, 4))
    if given.device == "cpu":
        with turn(given, "deformable-kernel"):
            milliseconds(lambda: sample_levels(values, points, middles, shapes), given)
            lines.append("| deformable-kernel | plain | | | | | |")
        return
    for size, warps in sizes:
        attend_levels(values, points, middles, shapes, size=size, warps=warps)
    with turn(given, "deformable-kernel"):
        for size, warps in sizes:
            took = milliseconds(
                lambda size=size, warps=warps: attend_levels(
                    values, points, middles, shapes, size=size, warps=warps
                ),
                given,
                0.2,
            )
            lines.append(
                f"| one deformable layer | {size} queries, {warps} warps | {took:.3f} a layer |"
            )
        took = milliseconds(lambda: sample_levels(values, points, middles, shapes), given, 0.2)
        lines.append(f"| one deformable layer | plain formula, float32 | {took:.3f} a layer |")
        windows(given, lines)


def windows(given: argparse.Namespace, lines: list[str]) -> None:
    """Attention in the windows of a Swin-L's and a Swin-T's first stages, plain and shifted."""
    for side, heads, hw in ((12, 6, (204, 276)), (7, 3, (203, 273))):
        for shift in (0, side // 2):
            lines += window_lines(given, side, shift, heads, hw)


def window_lines(
    given: argparse.Namespace, side: int, shift: int, heads: int, hw: tuple[int, int]
) -> list[str]:
    """Right, and how fast."""
    from pipeline.models.kernels.windows import attend_windows
    from pipeline.models.network.windows import attention_in_windows

    count = given.batch * (hw[0] // side) * (hw[1] // side)
    shape = count, side * side, heads * 32
    q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    biases = torch.randn(heads, side**2, side**2, device="cuda", dtype=torch.bfloat16)
    calls: dict[str, Call] = {
        "kernel": lambda: attend_windows(q, k, v, biases, side=side, shift=shift, hw=hw),
        "PyTorch": lambda: attention_in_windows(q, k, v, biases, side, shift, hw[0], hw[1]),
    }
    error = relative(calls["kernel"](), calls["PyTorch"]())
    took = {way: milliseconds(call, given, 0.1) for way, call in calls.items()}
    return [
        f"| windows of {side}², shift {shift}, error {error} | {way} | {each:.3f} a layer |"
        for way, each in took.items()
    ]


if __name__ == "__main__":
    main()
