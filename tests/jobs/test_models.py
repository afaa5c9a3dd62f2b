"""The table of models, and one of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.label import app as label
from jobs.models import app
from pipeline.models.checkpoints.catalog import catalog
from pipeline.models.checkpoints.families import BUNDLED, FAMILIES


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def rows() -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(run("--json"))}


def test_the_list_says_of_each_model_what_it_is_and_whether_it_is_here() -> None:
    found = rows()
    assert set(found) == {*BUNDLED, *catalog()}
    for row in found.values():
        assert row["family"] in FAMILIES
        assert row["tasks"]
        assert row["licence"]
        assert isinstance(row["gated"], bool)
        assert isinstance(row["present"], bool)
    for name in BUNDLED:
        assert len(found[name]["weights_sha256"]) == 64
        assert found[name]["present"]
    for name in catalog():
        row = found[name]
        assert row["repo"]
        assert row["revision"]
        assert row["parameters"] > 1e6
        assert row["input"]
    assert found["unet-nuclei"]["parameters"] == pytest.approx(3.8e6, rel=0.01)


def test_the_table_names_every_model_and_where_it_is_from() -> None:
    text = run()
    for name, row in rows().items():
        assert name in text
        assert row["repo"] in text
    assert text.count("gated") == sum(entry.gated for entry in catalog().values())


def test_what_is_here_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert not rows()["fcn-resnet50-voc"]["present"]
    place = json.loads(run("fcn-resnet50-voc", "--json"))["place"]
    assert Path(place).is_relative_to(tmp_path)
    Path(place).parent.mkdir(parents=True)
    Path(place).write_bytes(b"")
    assert rows()["fcn-resnet50-voc"]["present"]


def test_a_gated_model_says_where_to_ask_and_how_to_do_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is shown, and when it is wanted and not here."""
    for entry in catalog().values():
        assert ("access" in json.loads(run(entry.name, "--json"))) == entry.gated
    shown = run("sam3")
    asking = "ask for access on the page of facebook/sam3 on the hub, then `hf auth login`"
    assert "SAM License" in shown
    assert asking in shown
    assert "--model FOLDER" in shown
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.png").write_bytes(b"")
    given = ["--input", f"{tmp_path}/pictures", "--output", f"{tmp_path}/out", "--model", "sam3"]
    result = CliRunner().invoke(label, [*given, "--prompt", "cat", "--inline", "--quiet"])
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert asking in said
    assert "hf download facebook/sam3" in said
    assert "--model FOLDER" in said
    assert "://" not in said


def test_a_hub_id_of_the_catalog_is_not_fetched_to_be_shown() -> None:
    by_id = json.loads(run("shi-labs/oneformer_coco_swin_large", "--json"))
    assert by_id == json.loads(run("oneformer-swin-l-coco", "--json"))


def test_one_model_says_what_it_finds_and_how_to_get_it() -> None:
    text = run("oneformer-swin-l-coco")
    assert "hf download shi-labs/oneformer_coco_swin_large --revision 3a79bee4670e" in text
    assert "rug-merged" in text
    assert len([line for line in text.splitlines() if "#" in line]) == 133
    shown = json.loads(run("oneformer-swin-l-coco", "--json"))
    assert shown["categories"][0]["name"] == "person"
    assert shown["place"].endswith(shown["revision"])


def test_every_name_is_shown_with_what_it_says_in_the_list() -> None:
    for name, listed in rows().items():
        shown = json.loads(run(name, "--json"))
        assert {key: shown[key] for key in listed} == listed
        assert name in run(name)
        assert shown["categories"] or name not in catalog()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("rf-detr-seg-nano", "rf-detr-seg-n-coco"),
        ("sam-vit-base", "sam-vit-b"),
        ("sam2.1-hiera-base", "sam2.1-hiera-base-plus"),
        ("siglip2-b-16-nafle", "siglip2-b-16-naflex"),
        ("clip-vit-base-patch32", "clip-vit-b-32"),
    ],
)
def test_a_name_that_is_nearly_one_leads_to_it(typed: str, meant: str) -> None:
    result = CliRunner().invoke(app, [typed])
    assert result.exit_code == 2
    assert f"did you mean '{meant}'?" in " ".join(result.output.split())


def test_a_local_folder_can_be_shown(shared_data: Path) -> None:
    shown = json.loads(
        run(str(shared_data / "weights" / "deeplabv3-mobilenetv2-0.5-voc"), "--json")
    )
    assert shown["family"] == "semantic"
    assert shown["category_ids"] == list(range(1, 22))
    assert shown["parameters"] > 900_000


def test_an_unknown_name_is_bad_usage_with_a_hint() -> None:
    result = CliRunner().invoke(app, ["segformer-b0-adee"])
    assert result.exit_code == 2
    assert "did you mean 'segformer-b0-ade'?" in result.output
