"""Checkpoints of the hub: the real look-up in a cache on disk, fetching, and what errors say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from plain_checkpoints import COMMIT, hub_cache, plain_checkpoint

from pipeline.models.checkpoints import locate
from pipeline.models.checkpoints.locate import (
    cached_snapshot,
    fetch_command,
    find_snapshot,
    snapshot_folder,
)

NAMES = ["rust", "crack"]
REPO = "somebody/some-model"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return plain_checkpoint(tmp_path / "source", NAMES)


def complaint(revision: str = "main", **options: Any) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        find_snapshot(REPO, revision, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_cached_revision_is_found_by_branch_and_by_commit(
    cache: Path, checkpoint: Path, revision: str
) -> None:
    snapshot = hub_cache(cache, REPO, checkpoint)
    assert find_snapshot(REPO, revision) == snapshot
    assert cached_snapshot(REPO, revision) == snapshot
    assert snapshot.name == COMMIT


def test_a_proposed_revision_is_found_by_its_ref(cache: Path, checkpoint: Path) -> None:
    snapshot = hub_cache(cache, REPO, checkpoint, branch="refs/pr/3")
    assert find_snapshot(REPO, "refs/pr/3") == snapshot
    assert cached_snapshot(REPO, "main") is None


def test_another_revision_is_not_the_one(cache: Path, checkpoint: Path) -> None:
    hub_cache(cache, REPO, checkpoint)
    assert cached_snapshot(REPO, "f" * 40) is None
    assert cached_snapshot("somebody/other", "main") is None


def test_what_is_missing_names_the_command_and_the_folder(cache: Path) -> None:
    text = complaint(COMMIT)
    assert fetch_command(REPO, COMMIT) in text
    assert f"hf download {REPO} --revision {COMMIT} " in text
    assert str(cache / "models--somebody--some-model" / "snapshots" / COMMIT) in text
    assert "--model FOLDER" in text
    assert "HF_HUB_OFFLINE" in text
    assert "gated" not in text
    assert "pytorch_model" not in text
    assert "pytorch_model" in complaint(COMMIT, allow_pickle=True)


def test_a_gated_one_says_where_to_ask(cache: Path) -> None:
    text = complaint(gated=True)
    assert f"ask for access on the page of {REPO} on the hub" in text
    assert "--model FOLDER" in text
    assert "hf auth login" in text
    assert str(snapshot_folder(REPO, "main")) in text


@pytest.mark.parametrize(
    ("gone", "kind", "message"),
    [
        ("config.json", "segformer", "not complete"),
        ("preprocessor_config.json", "segformer", "holds no preprocessor_config.json"),
        ("model.safetensors", "segformer", "holds no .safetensors file"),
        ("vocab.json", "oneformer", "holds no tokenizer.json"),
    ],
)
def test_half_a_snapshot_is_none(
    cache: Path, tmp_path: Path, gone: str, kind: str, message: str
) -> None:
    source = plain_checkpoint(tmp_path / "source", NAMES, kind=kind)
    snapshot = hub_cache(cache, REPO, source)
    assert cached_snapshot(REPO, "main") == snapshot
    (snapshot / gone).unlink()
    assert cached_snapshot(REPO, "main") is None
    assert message in complaint()


def test_a_dangling_link_is_no_file(cache: Path, checkpoint: Path) -> None:
    snapshot = hub_cache(cache, REPO, checkpoint)
    (snapshot / "model.safetensors").resolve().unlink()
    assert cached_snapshot(REPO, "main") is None


def test_a_pickle_in_the_cache_needs_permission(cache: Path, tmp_path: Path) -> None:
    source = plain_checkpoint(tmp_path / "source", NAMES, weights="")
    (source / "pytorch_model.bin").write_bytes(b"x")
    snapshot = hub_cache(cache, REPO, source)
    assert "--allow-pickle" in complaint()
    assert find_snapshot(REPO, "main", allow_pickle=True) == snapshot


class Network:
    """Stands for the hub: puts a checkpoint's files into the cache, those that are asked for."""

    def __init__(self, cache: Path, checkpoint: Path) -> None:
        self.cache, self.checkpoint = cache, checkpoint
        self.asked: list[list[str]] = []

    def __call__(self, repo: str, *, allow_patterns: list[str], **options: Any) -> str:
        from huggingface_hub.utils import filter_repo_objects

        self.asked.append(allow_patterns)
        assert options["ignore_patterns"] == ["*/*"]
        assert options["cache_dir"] == str(self.cache)
        names = [path.name for path in self.checkpoint.iterdir()]
        names += ["onnx/model.safetensors", "model.fp16.safetensors", "tf_model.h5"]
        wanted = filter_repo_objects(
            names, allow_patterns=allow_patterns, ignore_patterns=options["ignore_patterns"]
        )
        part = self.cache / "part"
        part.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            (part / name).write_bytes((self.checkpoint / name).read_bytes())
        return str(part)


@pytest.fixture
def online(cache: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    network = Network(cache, checkpoint)
    monkeypatch.setattr(locate, "snapshot_download", network)
    return network


def test_with_a_network_what_is_missing_is_fetched_and_nothing_else(
    online: Network, checkpoint: Path
) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "flax_model.msgpack"):
        (checkpoint / name).write_bytes(b"x")
    folder = find_snapshot(REPO, "main", allow_pickle=True)
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
    }
    assert len(online.asked) == 1


def test_pickles_are_fetched_on_request_where_there_is_nothing_else(
    online: Network, checkpoint: Path
) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"is no use: .*holds no \.safetensors file"):
        find_snapshot(REPO, "main")
    folder = find_snapshot(REPO, "main", allow_pickle=True)
    assert (folder / "pytorch_model.bin").is_file()
    assert [("pytorch_model.bin" in patterns) for patterns in online.asked] == [False, False, True]


def answer(kind: type[Exception]) -> Exception:
    """The library's own error, without the answer of a server that it is made from."""
    error = kind.__new__(kind)
    error.args = ("said no\nat length",)
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (answer(GatedRepoError), "hf auth login"),
        (answer(RepositoryNotFoundError), "the hub has no such model, or it is private"),
        (answer(RevisionNotFoundError), "has no revision 'main'"),
        (RuntimeError("no\nroute"), "could not be fetched: no route. Where there is"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ConnectionError(), "could not be fetched: ConnectionError"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(
    online: Network, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(locate, "snapshot_download", fail)
    assert message in complaint()


def test_the_environment_says_where_the_cache_is(tmp_path: Path, checkpoint: Path) -> None:
    """As a user runs it: HF_HUB_CACHE, no network, a hub id on the command line."""
    snapshot = hub_cache(tmp_path / "elsewhere", REPO, checkpoint)
    for variable, value in (
        ("HF_HUB_CACHE", tmp_path / "elsewhere"),
        ("HF_HOME", tmp_path / "home"),
    ):
        if variable == "HF_HOME":
            hub_cache(tmp_path / "home" / "hub", REPO, checkpoint)
        plain = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        done = subprocess.run(
            [sys.executable, "-m", "jobs.models", REPO, "--json"],
            env={**plain, "HF_HUB_OFFLINE": "1", variable: str(value)},
            cwd=Path(__file__).resolve().parents[4],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        shown = json.loads(done.stdout)
        assert shown["repo"] == REPO
        assert shown["revision"] == snapshot.name
        assert Path(shown["folder"]).is_relative_to(value)


def test_the_command_is_one_that_the_hubs_program_takes() -> None:
    """Without a network it complains of that, not of its arguments."""
    import shlex

    program = Path(sys.executable).with_name("hf")
    arguments = shlex.split(fetch_command(REPO, COMMIT, allow_pickle=True))
    assert arguments[0] == "hf"
    done = subprocess.run(
        [str(program), *arguments[1:]],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    text = (done.stdout + done.stderr).lower()
    assert "offline" in text
    assert "usage" not in text
    assert "no such option" not in text
