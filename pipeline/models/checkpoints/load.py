"""Files of weights: read safely, put into a network whole or not at all, written atomically."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .info import ModelInfo

_COUNTER = "num_batches_tracked"


def read_weights(
    folder: Path, files: Sequence[str], *, allow_pickle: bool = False
) -> dict[str, Tensor]:
    """Name → weights, on the CPU.

    Args:
        folder: Where the files are.
        files: Names of .safetensors files or torch's pickles.
        allow_pickle: Whether pickles may be read, and then only weights from them.

    Raises:
        ValueError: A pickle that may not be read, holds more than weights, or a damaged file.
    """
    state: dict[str, Tensor] = {}
    for name in files:
        state |= _read(folder / name, allow_pickle)
    return state


def fill(net: torch.nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Puts weights into a network as float32: all of them or none.

    The counters of batch normalisation, which only training reads, may be missing.

    Args:
        net: On the CPU.
        state: Name → weights of any precision.
        where: Named in the error.

    Raises:
        ValueError: Some are missing, left over or of another shape.
    """
    own = {name: each for name, each in net.state_dict().items() if name.endswith(_COUNTER)}
    for name, value in state.items():
        own[name] = value.float() if value.is_floating_point() else value
    try:
        net.load_state_dict(own)
    except RuntimeError as error:
        wrong = " ".join(str(error).split("\n", 1)[-1].split())
        raise ValueError(f"{where}: weights do not fit the architecture: {wrong[:300]}") from error


def write_checkpoint(folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Writes a folder that `--model FOLDER` loads; weights before config, each atomically.

    Args:
        folder: Made where it is missing.
        state: Name → weights; what it holds is written as it is.
        config: With the keys `format` and `family`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    partial = folder / "model.safetensors.partial"
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.chmod(0o644)  # safetensors makes its files private
    os.replace(partial, folder / "model.safetensors")
    partial = folder / "config.json.partial"
    partial.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / "config.json")


def _read(path: Path, allow_pickle: bool) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"there is no {path}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    if not allow_pickle:
        raise ValueError(f"{path} is a pickle: --allow-pickle reads it, with weights_only=True")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} holds more than weights, or is damaged: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(each, Tensor) for each in state.values()):
        raise ValueError(f"{path} is no table of weights")
    return state


# Loads a transformers checkpoint whole or not at all.

HARMLESS = (
    r"relative_position_index$",  # follow from the architecture; saved by old versions only
    r"position_ids$",
    r"num_batches_tracked$",
    r"^criterion\.",  # the loss
)
"""Keys that may be missing or left over."""


def load_pretrained(
    model_class: Any,
    info: ModelInfo,
    *,
    device: str,
    allow_pickle: bool = False,
    harmless: Sequence[str] = (),
    **options: Any,
) -> torch.nn.Module:
    """The network of a checkpoint folder, ready to be asked, on the device.

    Args:
        model_class: A class of transformers with `from_pretrained`.
        info: The checkpoint.
        device: Where it goes.
        allow_pickle: Read a pickle where there is no safetensors file, and then only weights.
        harmless: Patterns of further keys that may be missing or left over.
        options: Of `from_pretrained`.

    Raises:
        ValueError: Weights are missing, left over or of another shape: what was drawn at random
            must not label anything.
    """
    # Checks of shapes that wait for the GPU in each layer; transformers' own switch.
    os.environ.setdefault("TRANSFORMERS_DISABLE_TORCH_CHECK", "1")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    safe = any(Path(info.folder).glob("*.safetensors"))
    model, report = model_class.from_pretrained(
        info.folder,
        local_files_only=True,
        trust_remote_code=False,  # unset, transformers asks on the terminal whether to run it
        use_safetensors=safe or not allow_pickle,
        weights_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are in the report, which is clearer than the error
        dtype=torch.float32,
        **options,
    )
    known = [*HARMLESS, *harmless]
    wrong = [
        f"{kind} {_some(keys)}"
        for kind, keys in (
            ("missing", _strange(report["missing_keys"], known)),
            ("left over", _strange(report["unexpected_keys"], known)),
            ("of another shape", [key[0] for key in report["mismatched_keys"]]),
        )
        if keys
    ]
    if wrong:
        raise ValueError(f"weights do not fit {type(model).__name__}: {'; '.join(wrong)}")
    model.eval().requires_grad_(False)
    return model.to(device=device, memory_format=torch.channels_last)


def _strange(keys: Any, known: Sequence[str]) -> list[str]:
    return sorted(key for key in keys if not any(re.search(each, key) for each in known))


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + more
