"""Deformable attention: the library's own modules against ours, plain, compiled and as a kernel."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.models.network.deformable import (
    KernelAttention,
    deformable_attention,
    exchange,
    sample_levels,
    use_kernel,
)

HERE = Path(__file__).parent
SHAPES = [(5, 7), (3, 4), (2, 2)]


def mask2former() -> nn.Module:
    from transformers.models.mask2former import modeling_mask2former as library

    return library.Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention(32, 4, 3, 4)


def oneformer() -> nn.Module:
    from transformers.models.oneformer import modeling_oneformer as library

    return library.OneFormerPixelDecoderEncoderMultiscaleDeformableAttention(32, 4, 3, 4)


def of_config(module: str, prefix: str) -> nn.Module:
    from importlib import import_module

    library: Any = import_module(f"transformers.models.{module}.modeling_{module}")
    configs: Any = import_module(f"transformers.models.{module}.configuration_{module}")
    config = getattr(configs, f"{prefix}Config")()
    config.d_model, config.num_feature_levels = 32, 3
    cls = getattr(library, f"{prefix}MultiscaleDeformableAttention")
    return cls(config, num_heads=4, n_points=2)


MODULES = {
    "mask2former": mask2former,
    "oneformer": oneformer,
    "grounding-dino": lambda: of_config("grounding_dino", "GroundingDino"),
    "mm-grounding-dino": lambda: of_config("mm_grounding_dino", "MMGroundingDino"),
    "omdet-turbo": lambda: of_config("omdet_turbo", "OmDetTurbo"),
    "rt-detr": lambda: of_config("rt_detr", "RTDetr"),
    "rf-detr": lambda: of_config("rf_detr", "RfDetr"),
}


def inputs(coordinates: int) -> dict[str, Any]:
    torch.manual_seed(0)
    cells = sum(height * width for height, width in SHAPES)
    queries = 11
    closed = torch.rand(2, cells) < 0.3
    return {
        "hidden_states": torch.randn(2, queries, 32),
        "attention_mask": closed,
        "encoder_hidden_states": torch.randn(2, cells, 32),
        "position_embeddings": torch.randn(2, queries, 32),
        "reference_points": torch.rand(2, queries, 3, coordinates),
        "spatial_shapes": torch.tensor(SHAPES),
        "spatial_shapes_list": SHAPES,
    }


@pytest.mark.parametrize("coordinates", [2, 4])
@pytest.mark.parametrize("name", MODULES)
def test_ours_gives_what_the_librarys_module_gives(name, coordinates):
    module: Any = MODULES[name]()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    given = inputs(coordinates)
    known = inspect.signature(module.forward).parameters  # either form of the shapes, or both
    wanted_given = {key: value for key, value in given.items() if key in known}
    wanted = module.eval()(**wanted_given)[0]
    holder = nn.Sequential(nn.Sequential(module))
    assert exchange(holder, padded=True, inverted=name in ("mask2former", "oneformer")) == 1
    ours: Any = holder[0][0]
    assert isinstance(ours, KernelAttention)
    torch.testing.assert_close(ours(**given)[0], wanted, rtol=1e-4, atol=1e-5)
    del given["spatial_shapes_list"]
    torch.testing.assert_close(ours(**given)[0], wanted, rtol=1e-4, atol=1e-5)
    ours.padded = False
    given["attention_mask"] = None
    open_given = {**wanted_given, "attention_mask": None}
    torch.testing.assert_close(ours(**given)[0], module(**open_given)[0], rtol=1e-4, atol=1e-5)


def test_nothing_is_exchanged_on_a_cpu_and_nothing_else_anywhere():
    holder = nn.Sequential(mask2former(), nn.Linear(3, 3), nn.MultiheadAttention(8, 2))
    kinds = [type(each) for each in holder]
    assert use_kernel(holder) == 0
    assert [type(each) for each in holder] == kinds
    assert exchange(holder, padded=True, inverted=True) == 1


def test_heads_of_an_odd_width_are_left_to_the_library():
    from transformers.models.mask2former import modeling_mask2former as library

    with pytest.warns(UserWarning, match="power of 2"):
        odd = library.Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention(48, 4, 3, 4)
    assert exchange(nn.Sequential(odd), padded=True, inverted=True) == 0


def test_it_is_one_operator_to_the_compiler():
    """No graph break, and the shape that the fake one promises."""
    shapes = [5, 7, 3, 4]
    values = torch.randn(2, 47, 4, 8)
    points, references = torch.randn(2, 6, 72), torch.rand(2, 6, 2, 2)
    torch.library.opcheck(deformable_attention, (values, points, references, shapes))
    compiled = torch.compile(
        lambda *given: deformable_attention(*given, shapes) * 2, fullgraph=True, backend="aot_eager"
    )
    wanted = 2 * sample_levels(values, points, references, shapes)
    torch.testing.assert_close(compiled(values, points, references), wanted)


def test_interpreted_the_kernel_gives_what_the_plain_formula_gives():
    """In a process of its own: Triton decides when it is imported whether it interprets."""
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parents[3]))),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "deformable_checks"],
        cwd=HERE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_it_compiles_for_a_gpu_that_is_not_here(tmp_path, monkeypatch):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pipeline.models.kernels.deformable import attend

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = {
        "heads": 8,
        "channels": 32,
        "levels": 2,
        "each": 2,
        "padded": 4,
        "coordinates": 4,
        "size": 32,
    }
    types = dict.fromkeys(("values", "points", "answer"), "*bf16") | {"references": "*fp32"}
    signature = {
        name: "constexpr" if name in constants else types.get(name, "i32")
        for name in attend.arg_names
    }
    known = {(attend.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(attend, signature, known)
    built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 2})
    assert built.asm["cubin"]


@pytest.mark.gpu
def test_on_a_gpu_the_kernel_gives_what_the_plain_formula_gives():
    from deformable_checks import check

    check("cuda")
