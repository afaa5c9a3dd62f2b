"""The files of a checkpoint: which hold weights, which decide an answer, and their hash. No torch.

Weights are safetensors. A pickle can run code of its author's when it is read, so those need a
permission, and then weights alone are taken from them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

from schemas.names import is_below

from .hf_preprocessor import FILES

SAFE = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt")
_PICKLES = ("*.pth", "*.pt", "*.ckpt", "*.bin")
_TRAINING = re.compile(r"(optimizer|scheduler|scaler|rng_state|training_args)")
"""What trainers leave beside weights."""
_LONGEST_HEAD = 100_000_000
"""Bytes; the format allows no more."""
DECIDING = (
    *FILES,
    *TOKENIZERS,
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "albumentations_config_eval.json",
    "maskmill.json",
)
"""What decides an answer besides config.json, weights, and OneFormer's table of categories."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: It is something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} is no JSON object")
    return data


def weight_files(
    folder: Path, *, named: str = "", any_name: bool = False, allow_pickle: bool = False
) -> list[Path]:
    """The files that hold a checkpoint's weights, in name order.

    Args:
        folder: The checkpoint.
        named: The one file, where the config names it.
        any_name: Whether files count whatever they are called, where none has the usual name.
        allow_pickle: Whether pickles count, where there are no safetensors.

    Raises:
        ValueError: There are none, some of several are missing, or they are pickles that are not
            allowed.
    """
    if named:
        if not _plain(named):
            raise ValueError(f"{folder}: config.json names weights outside its folder: {named!r}")
        files = [folder / named]
        pickled = not named.endswith((".safetensors", ".onnx"))
    else:
        files = _listed(folder, SAFE, ("*.safetensors",) if any_name else ())
        pickled = not files
        if pickled:
            files = _listed(folder, PICKLED, _PICKLES if any_name else ())
            listed = any((folder / name).is_file() for name in PICKLED)
            if len(files) > 1 and not listed and not _shards(folder, folder / PICKLED[0]):
                raise ValueError(
                    f"{folder} holds several files of weights, "
                    f"{', '.join(path.name for path in files[:4])}: name one, as --model {files[0]}"
                )
    if pickled and files and not allow_pickle:
        raise ValueError(
            f"{folder} holds weights as a pickle only, {files[0].name}, which may run code of its "
            "author's when it is read; --allow-pickle reads weights alone from it, a conversion to "
            "safetensors is better"
        )
    if not files:
        raise ValueError(f"{folder} holds no .safetensors file{_others(folder)}")
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise ValueError(f"{folder} lacks the weights {', '.join(missing)}")
    return sorted(files)


def _listed(folder: Path, whole_and_index: tuple[str, str], other: tuple[str, ...]) -> list[Path]:
    """The one file, those that the index names, shards without one, or what matches `other`."""
    whole, index = (folder / name for name in whole_and_index)
    if whole.is_file():
        return [whole]
    if not index.is_file():
        if shards := _shards(folder, whole):
            return shards
        found = {path for pattern in other for path in folder.glob(pattern)}
        return sorted(path for path in found if not _TRAINING.match(path.name))
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(_plain(name) for name in shards.values()):
        raise ValueError(f"{index} names no files of weights")
    return [folder / name for name in sorted(set(shards.values()))]


def _shards(folder: Path, whole: Path) -> list[Path]:
    """Shards without an index: all that there should be by their own names."""
    pattern = re.compile(rf"{whole.stem}-(\d+)-of-(\d+){re.escape(whole.suffix)}")
    found = {
        path.name: match for path in folder.iterdir() if (match := pattern.fullmatch(path.name))
    }
    if not found:
        return []
    width, count = max((len(match[1]), int(match[2])) for match in found.values())
    wanted = [
        f"{whole.stem}-{number:0{width}d}-of-{count:0{width}d}{whole.suffix}"
        for number in range(1, count + 1)
    ]
    return [folder / name for name in wanted]


def _others(folder: Path) -> str:
    """Files that may hold weights under a name that is not looked for, and the cure."""
    found = sorted(
        path.name
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.suffix in (".safetensors", ".bin", ".pth", ".pt", ".ckpt")
        and not _TRAINING.match(path.name)
    )
    if not found:
        return ""
    safe = found[0].endswith(".safetensors")
    return (
        f", but {', '.join(found[:4])}: name the file itself, as --model {folder / found[0]}, or "
        f"call it {SAFE[0] if safe else PICKLED[0]}"
    )


def _plain(name: Any) -> bool:
    """Whether it is a file of the folder itself."""
    return is_below(name) and Path(name).name == name


def count_parameters(files: Sequence[Path]) -> int:
    """Numbers in safetensors files, read from their heads; other files count nothing.

    A file begins with the length of its head, 8 bytes, little-endian; the head is a JSON object of
    tensors.
    """
    total = 0
    for path in files:
        if path.suffix != ".safetensors":
            continue
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            head = json.loads(file.read(min(length, _LONGEST_HEAD)))
        total += sum(prod(each["shape"]) for each in head.values() if "shape" in each)
    return total


def class_info_files(folder: Path) -> list[Path]:
    """Files in which OneFormer's processor keeps the names of categories and which are things."""
    named = ""
    for path in (folder / name for name in FILES):
        if path.is_file():
            settings = read_json(path)
            named = str(settings.get("image_processor", settings).get("class_info_file") or "")
            break
    files = {folder / named} if _plain(named) else set()
    return sorted(path for path in {*files, *folder.glob("*panoptic*.json")} if path.is_file())


def card_licence(folder: Path) -> str:
    """What the model card beside the weights says in its head, "" where it says nothing."""
    path = folder / "README.md"
    if not path.is_file():
        return ""
    head = re.match(r"---\n(.*?)\n---", path.read_text("utf-8", errors="replace"), re.DOTALL)
    found = re.search(r"^licen[sc]e: *[\"']?([^\"'\n]+)", head[1], re.MULTILINE) if head else None
    return found[1].strip() if found else ""


def weights_hash(folder: Path, weights: Sequence[Path], *, config: str = "") -> str:
    """SHA-256 over name and content of every file that decides an answer, config.json first.

    Symbolic links, as the hub's cache has them, are followed.

    Args:
        folder: The checkpoint.
        weights: Of `weight_files`; none for a family without weights.
        config: What a config.json would say, for weights that stand alone in `folder`.
    """
    if config:
        inner = hashlib.sha256(config.encode()).hexdigest()
        return _hash([f"config.json {inner}\n", *map(_line, sorted(weights))])
    deciding = {path for name in DECIDING if (path := folder / name).is_file()}
    deciding |= {folder / name for name in (SAFE[1], PICKLED[1]) if (folder / name).is_file()}
    deciding |= {*weights, *class_info_files(folder)}
    first = [path] if (path := folder / "config.json").is_file() else []
    return _hash(map(_line, [*first, *sorted(deciding - set(first))]))


def _line(path: Path) -> str:
    with path.open("rb") as file:
        return f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n"


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(lines).encode()).hexdigest()
