"""What a job asks: two models, prompts of every kind, and all that can be wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_checkpoints import checkpoint
from tiny_embedders import embedder_checkpoint
from tiny_sam import sam_checkpoint
from tiny_text import text_checkpoint

from pipeline.engine.resolve import resolve_model
from pipeline.engine.run import label
from pipeline.ledger.ledger import open_ledger
from pipeline.storage.storage import Storage
from schemas.config.job import JobConfig

ONTOLOGY = """
[[category]]
name = "animal"
id = 7
prompts = ["cat", "dog"]
negative = ["toy"]
"""


def config(name: str | Path, tmp_path: Path, **more: Any) -> JobConfig:
    model = {"name": str(name), **more.pop("model", {})}
    input_ = {"uri": str(tmp_path / "pictures")}
    return JobConfig.parse(
        {"input": input_, "output": str(tmp_path / "out"), "model": model, **more}
    )


def asked(name: str | Path, tmp_path: Path, **more: Any) -> Any:
    return resolve_model(config(name, tmp_path, **more), Storage())


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


SAM = "SAM"
DINO = "DINO"
PLAIN = "PLAIN"
CLIP = "CLIP"
DINOV2 = "DINOV2"
FOLDERS = {
    CLIP: lambda: embedder_checkpoint("clip"),
    DINOV2: lambda: embedder_checkpoint("dinov2"),
    SAM: lambda: sam_checkpoint("sam"),
    DINO: lambda: text_checkpoint("grounding-dino"),
    PLAIN: lambda: checkpoint("segformer"),
}


def named(pattern: str) -> str:
    """SAM, DINO and PLAIN replaced by the folders of tiny checkpoints."""
    return "+".join(
        str(FOLDERS[part]()) if part in FOLDERS else part for part in pattern.split("+")
    )


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        ("+SAM", {}, "lacks a model before or after the"),
        ("DINO+", {}, "lacks a model before or after the"),
        ("SAM+SAM", {}, r"makes masks itself, it takes no \+"),
        ("PLAIN+SAM", {}, r"makes masks itself, it takes no \+"),
        ("DINO+PLAIN", {"prompts": {"text": ["cat"]}}, "is no SAM and turns no boxes into masks"),
        ("DINO+DINO", {"prompts": {"text": ["cat"]}}, "is no SAM and turns no boxes into masks"),
        ("DINO+SAM", {"model": {"revision": "v1"}}, "give their revisions as @"),
        ("PLAIN", {"prompts": {"text": ["cat"]}}, r"prompts\.text: .* has categories of its own"),
        ("PLAIN", {"prompts": {"file": "b.csv"}}, r"prompts\.file: .* takes no prompts"),
        (
            "DINO+SAM",
            {"prompts": {"text": ["cat"], "ontology": "o.toml"}},
            r"prompts\.text and prompts\.ontology: give one of them",
        ),
        ("SAM", {"prompts": {"text": ["cat"]}}, r"reads no words; .*grounding-dino-tiny\+"),
        ("SAM", {"prompts": {"ontology": "o.toml"}}, r"prompts\.ontology: .* reads no words"),
        ("DINO+SAM", {"prompts": {"file": "b.csv"}}, "points and boxes are for SAM"),
        ("DINO+SAM", {}, "looks for words: give --prompt TEXT or --ontology FILE"),
        ("CLIP", {"prompts": {"text": ["cat"]}}, r"makes none: name a SAM before it.*sam-vit-b\+"),
        ("CLIP+SAM", {"prompts": {"text": ["cat"]}}, r"makes masks itself, it takes no \+"),
        ("DINO+CLIP", {"prompts": {"text": ["cat"]}}, "is no SAM and turns no boxes into masks"),
        ("SAM+CLIP", {}, "by words or by exemplars: give --prompt TEXT, --ontology"),
        (
            "SAM+CLIP",
            {"prompts": {"file": "b.csv"}},
            r"prompts\.file: .* names masks of everything",
        ),
        (
            "SAM+CLIP",
            {"prompts": {"text": ["cat"], "ontology": "o.toml"}},
            r"prompts\.text and prompts\.ontology: give one of them",
        ),
        ("SAM+DINOV2", {"prompts": {"text": ["cat"]}}, r"reads no words .*give --exemplar"),
        ("SAM+CLIP", {"prompts": {"exemplars": ["gone.png:1,2,3,4=x"]}}, r"--exemplar 'gone\.png"),
        (
            "SAM",
            {"prompts": {"exemplars": ["a.png:1,2,3,4=x"]}},
            r"compares nothing \(--exemplar\)",
        ),
        ("DINO+SAM", {"prompts": {"exemplars": ["a.png:1,2,3,4=x"]}}, "compares nothing"),
        ("PLAIN", {"prompts": {"exemplars": ["a.png:1,2,3,4=x"]}}, r"takes no prompts"),
        (
            "SAM+CLIP",
            {"prompts": {"text": ["object"]}, "naming": {"keep_unnamed": True}},
            r"naming\.keep_unnamed: .*'object'",
        ),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, model: str, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        asked(named(model), tmp_path, **more)


def test_two_models_are_one_description(tmp_path: Path) -> None:
    text = {"text": ["cat", "red car"]}
    both = asked(named("DINO+SAM"), tmp_path, prompts=text).info
    alone = asked(named("DINO"), tmp_path, prompts=text).info
    assert both.partner.family == "sam"
    assert both.name == f"{alone.name}+{both.partner.name}"
    assert both.weights_sha256 not in (alone.weights_sha256, both.partner.weights_sha256)
    assert [(c.id, c.name) for c in both.categories] == [(1, "cat"), (2, "red car")]
    assert [c.name for c in both.asking.ontology.category] == ["cat", "red car"]


def test_a_folder_with_a_plus_is_one_model(tmp_path: Path) -> None:
    folder = tmp_path / "a+b"
    folder.symlink_to(sam_checkpoint("sam"))
    found = asked(folder, tmp_path)
    assert (found.info.family, found.info.partner, found.prompts) == ("sam", None, None)
    assert not found.info.asking.from_file


def test_an_ontology_file_and_its_identity(tmp_path: Path) -> None:
    first = asked(
        named("DINO+SAM"),
        tmp_path,
        prompts={"ontology": written(tmp_path / "o.toml", ONTOLOGY)},
    )
    assert [(c.id, c.name) for c in first.info.categories] == [(7, "animal")]
    other = asked(
        named("DINO+SAM"),
        tmp_path,
        prompts={"ontology": written(tmp_path / "o.toml", ONTOLOGY.replace("toy", "plush"))},
    )
    assert first.identity != other.identity


def test_a_file_of_prompts_and_its_digest(tmp_path: Path) -> None:
    text = "file_name,category,x,y,w,h\na.png,cat,1,2,9,9\n"
    found = [
        asked(named("SAM"), tmp_path, prompts={"file": written(tmp_path / "b.csv", content)})
        for content in (text, text, text.replace("9,9", "9,8"))
    ]
    assert found[0].identity == found[1].identity == {"prompts": found[0].prompts.digest}
    assert found[0].identity != found[2].identity
    assert found[0].info.asking.from_file
    assert [c.name for c in found[0].info.categories] == ["cat"]


def test_a_sam_and_an_embedder_are_one_description(tmp_path: Path) -> None:
    found = asked(named("SAM+CLIP"), tmp_path, prompts={"text": ["cat", "red car"]})
    alone = asked(named("SAM"), tmp_path).info
    assert (found.info.family, found.info.partner.family) == ("embedder", "embedder")
    assert found.info.folder == alone.folder
    assert found.info.name == f"{alone.name}+{found.info.partner.name}"
    assert found.info.weights_sha256 not in (
        alone.weights_sha256,
        found.info.partner.weights_sha256,
    )
    assert found.info.tasks == ("instance", "panoptic")
    assert [(c.id, c.name) for c in found.info.categories] == [(1, "cat"), (2, "red car")]
    assert found.prompts is None


def test_identity_is_what_is_compared_and_how(tmp_path: Path, monkeypatch: Any) -> None:
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "a.png"), rng.integers(0, 256, (30, 40, 3), np.uint8))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    monkeypatch.chdir(tmp_path)

    def identity(exemplar: str = "a.png:1,2,9,9=nut", **naming: Any) -> Any:
        prompts = {"exemplars": [exemplar], "text": ["cat"]}
        found = asked(named("SAM+CLIP"), tmp_path, prompts=prompts, naming=naming)
        assert [c.name for c in found.info.categories][:1] == ["cat"]
        return found.identity

    first = identity()
    assert identity("b.png:1,2,9,9=nut") == identity(crops_per_batch=3) == first
    for other in (
        identity("a.png:1,2,9,8=nut"),
        identity("a.png:1,2,9,9=bolt"),
        identity(margin=0.3),
        identity(similarity=0.9),
        identity(keep_unnamed=True),
    ):
        assert other != first
    job = config(named("SAM"), tmp_path)
    more = config(named("SAM"), tmp_path, naming={"margin": 0.3})
    same = {"tasks": ("instance",), "weights_sha256": "", "revision": "", "categories": ()}
    assert job.label_config(**same) == more.label_config(**same)  # SAM alone compares nothing


def test_labels_depend_on_the_file_and_say_what_was_not_in_it(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "pictures" / f"{name}.png"), pixels)
    crowd = {"size": [9, 9], "counts": [81]}
    boxes = tmp_path / "boxes.json"

    def run(text: str) -> Any:
        more = {"prompts": {"file": written(boxes, text)}, "execution": {"inline": True}}
        label(config(named("SAM"), tmp_path, **more), export=False, report=False)
        ledger = open_ledger(str(tmp_path / "out"))
        return ledger.manifest, {row["file_name"]: row for row in images(tmp_path / "out")}

    first, rows = run('[{"file_name": "a.png", "bbox_xywh": [5, 6, 20, 20], "id": 4}]')
    assert (rows["a.png"]["error_message"], rows["a.png"]["num_segments"]) == (None, 1)
    assert (rows["b.png"]["status"], rows["b.png"]["num_segments"]) == ("empty", 0)
    assert rows["b.png"]["note"] == "not in the file of prompts"
    assert rows["a.png"]["note"] is None
    second, rows = run(
        '{"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],'
        '"categories": [{"id": 1, "name": "x"}], "annotations": ['
        '{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 20, 20]},'
        '{"id": 2, "image_id": 2, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 9, 9],'
        f'"segmentation": {str(crowd).replace(chr(39), chr(34))}}}]}}'
    )
    assert first.config_fingerprint != second.config_fingerprint
    assert rows["a.png"]["status"] == "ok"
    assert (rows["b.png"]["status"], rows["b.png"]["error_code"]) == ("failed", "bad_prompt")


def images(out: Path) -> list[dict[str, Any]]:
    """Rows of the current version."""
    parts = json.loads((out / "manifest.json").read_text())["parts"]
    return [
        row
        for part in parts
        for row in pq.read_table(out / "images" / f"{part['name']}.parquet").to_pylist()
    ]
