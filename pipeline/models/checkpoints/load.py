"""Files of weights: read safely, put into a network whole or not at all, written atomically."""

from __future__ import annotations

import argparse
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
from torch.overrides import TorchFunctionMode

from .files import SAFE
from .info import ModelInfo

_COUNTER = "num_batches_tracked"
_WRAPPERS = ("model", "state_dict", "model_state_dict", "model_state", "net", "network")
"""Keys under which training scripts save weights beside optimisers and epochs."""
_TRAINING = re.compile(r"(criterion|loss\w*|metrics?|(train|val|valid|test)_\w+)\b")
"""What a Lightning module may hold beside its network."""


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


class EmptyWeights(TorchFunctionMode):
    """Networks built inside draw no weights, which takes longer than reading them.

    Their parameters hold what memory held: `fill`, which sets all or none, has to follow.
    """

    _DRAWS = frozenset(
        getattr(where, f"{name}_")
        for where, names in (
            (torch.Tensor, ("normal", "uniform")),
            (torch.nn.init, ("normal", "uniform", "kaiming_normal", "kaiming_uniform")),
        )
        for name in names
    )

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Runs an operation, but for those that draw a parameter."""
        kwargs = kwargs or {}
        tensor = args[0] if args else kwargs.get("tensor")
        if func in self._DRAWS and isinstance(tensor, torch.nn.Parameter):
            return tensor
        return func(*args, **kwargs)


def fill(net: torch.nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Puts weights into a network as float32: all of them or none.

    The counters of batch normalisation, which only training reads, may be missing. What training
    wraps a network in (`module.`, `model.`) is taken off the names.

    Args:
        net: On the CPU.
        state: Name → weights of any precision.
        where: Named in the error.

    Raises:
        ValueError: Some are missing, left over or of another shape.
    """
    blank = net.state_dict()
    own = {name: each for name, each in blank.items() if name.endswith(_COUNTER)}
    for name, value in unwrapped(state, blank).items():
        own[name] = value.float() if value.is_floating_point() else value
    try:
        net.load_state_dict(own)
    except RuntimeError as error:
        wrong = _of_other_pictures(own, blank)
        wrong = wrong or " ".join(str(error).split("\n", 1)[-1].split())
        raise ValueError(f"{where}: weights do not fit the architecture: {wrong[:300]}") from error


def _of_other_pictures(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """What to say of a first convolution that sees another number of channels; else ""."""
    for name, value in state.items():
        mine = own[name].shape if name in own else torch.Size()
        channels = value.shape[1] if value.ndim == 4 else 0
        if len(mine) == 4 and mine == (value.shape[0], 3, *value.shape[2:]) and channels != 3:
            return (
                f"{name} sees pictures of {channels} channels, and this network sees 3; only those "
                "of segmentation-models-pytorch can see another number (in_channels)"
            )
    return ""


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
        # torchvision's reference training saves its command line beside the weights: plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} holds more than weights, or is damaged: {reason}") from error
    return _table(state, path)


def _table(state: Any, path: Path) -> dict[str, Tensor]:
    """The weights in what a training script saved.

    Raises:
        ValueError: There are none; says what is there.
    """
    if isinstance(state, Mapping):
        if state and all(isinstance(each, Tensor) for each in state.values()):
            return dict(state)
        for key in _WRAPPERS:
            inner = state.get(key)
            if isinstance(inner, Mapping) and inner:
                return _table(inner, path)
        held = ", ".join(repr(str(key)) for key in [*state][:6])
        raise ValueError(
            f"{path} is no table of weights: it holds {held or 'nothing'}, and weights under none "
            f"of {', '.join(map(repr, _WRAPPERS))}"
        )
    raise ValueError(f"{path} is no table of weights but {type(state).__name__}")


def unwrapped(state: Mapping[str, Tensor], own: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The weights under the network's own names.

    `DataParallel` puts `module.` before all names, `torch.compile` `_orig_mod.`, a Lightning module
    the name of its attribute, beside which it may keep a loss or metrics of its own.

    Args:
        state: Name → weights.
        own: The network's state: its names.
    """
    if not state or any(name in own for name in state):
        return state
    some = next(iter(own))
    for name in state:
        if name.endswith(f".{some}"):
            prefix = name.removesuffix(some)
            inner = {
                key.removeprefix(prefix): value
                for key, value in state.items()
                if key.startswith(prefix)
            }
            rest = [key for key in state if not key.startswith(prefix)]
            return inner if all(_TRAINING.match(key) for key in rest) else state
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
    import transformers
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    where: dict[str, Any] = {}
    if _is_read_here(info):
        state = read_weights(Path(info.folder), info.weights, allow_pickle=allow_pickle)
        if hasattr(model_class, "_model_mapping"):  # an Auto class wants a folder
            config = transformers.AutoConfig.from_pretrained(info.folder, local_files_only=True)
            model_class = model_class._model_mapping[type(config)]
        config = model_class.config_class.from_pretrained(info.folder, local_files_only=True)
        where = {"config": config, "state_dict": dict(_whole_prefix_off(state))}
    model, report = model_class.from_pretrained(
        None if where else info.folder,
        **where,
        local_files_only=True,
        trust_remote_code=False,  # unset, transformers asks on the terminal whether to run it
        use_safetensors=True,
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


def _is_read_here(info: ModelInfo) -> bool:
    """Whether transformers would not find the weights, or not in what is wrapped around them."""
    if not info.weights:
        return False
    folder = Path(info.folder)
    return info.weights != (SAFE[0],) and not (folder / SAFE[1]).is_file()


def _whole_prefix_off(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Without `module.` or `_orig_mod.`, if all names begin so; transformers knows the others."""
    for prefix in ("module.", "_orig_mod."):
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _strange(keys: Any, known: Sequence[str]) -> list[str]:
    return sorted(key for key in keys if not any(re.search(each, key) for each in known))


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(keys[:3]) + more
