"""What the card of the Hugging Face export says beside its table of splits."""

from pathlib import Path

from small_datasets import small_dataset

from pipeline.evaluation.evaluate import evaluate
from pipeline.exporters import check_exports, export_all
from pipeline.ledger.ledger import open_ledger


def card(ledger):
    return (Path(ledger.uri) / "exports" / "hf" / "README.md").read_text("utf-8")


def problems(ledger):
    found = []
    check_exports(ledger, lambda *problem: found.append(problem))
    return found


def test_figures_of_a_saved_evaluation_stand_in_the_card(tmp_path):
    ledger = small_dataset(tmp_path / "data", pictures=True)
    export_all(ledger, formats=("hf",))
    bare = card(ledger)
    assert "## Figures" not in bare
    evaluate(dataset=ledger.uri, ground_truth=ledger.uri, save=True, metrics=("pq", "miou"))
    assert not problems(ledger)  # evaluated since: the export is as good as it was
    again = open_ledger(ledger.uri)
    (Path(ledger.uri) / "exports" / "exports.json").unlink()
    export_all(again, formats=("hf",))
    told = card(again)
    assert told.startswith(bare)
    assert "| panoptic quality | 1.000 |" in told
    assert "| mean IoU | 1.000 |" in told
    assert "average precision" not in told
    assert "ground truth of 8 images" in told
    assert not problems(again)


def test_a_file_that_is_no_evaluation_says_nothing(tmp_path):
    ledger = small_dataset(tmp_path / "data", pictures=True)
    place = Path(ledger.uri) / "report" / "evaluation.json"
    place.parent.mkdir()
    for text in ("[1]", "{", '{"overall": {"miou": 3}, "counts": {}}'):
        place.write_text(text)
        export_all(ledger, formats=("hf",))
        assert "## Figures" not in card(ledger)
