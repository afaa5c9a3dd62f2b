"""Damaged configs, manifests and files of a dataset: one clear error or a clean start, no crash.

`support/fuzz.py` says how much is tried; the seeds that once broke something stand as examples.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from fuzz import EDITS, FEW, JSON, edited, paths, replaced, survives, tries
from hypothesis import example, given
from hypothesis import strategies as st
from otsu_jobs import otsu_job
from pictures import write_pictures
from small_datasets import small_dataset

from pipeline.engine.run import label
from pipeline.engine.summary import read_summary
from pipeline.errors import ExecutionError, OverBudgetError
from pipeline.exporters.exports import ExportStamp
from pipeline.history.standing import MARKER, standing_manifest
from pipeline.history.versions import list_versions
from pipeline.ledger.containers import read_containers
from pipeline.ledger.held import held_uri, read_held
from pipeline.ledger.lease import FILE, Lease
from pipeline.ledger.ledger import open_ledger
from pipeline.ledger.locks import read_locks
from pipeline.ledger.receipts import read_receipt
from pipeline.ledger.removed import read_removed, write_removed
from pipeline.ledger.row_index import index_covers, known_rows, read_index
from pipeline.report import write_report
from pipeline.review.selection import read_given
from pipeline.storage.prefixes import POINTER
from pipeline.storage.storage import Storage
from pipeline.storage.swap import current_folder
from pipeline.validation.validate import validate
from schemas.config.job import JobConfig
from schemas.config.layers import layered
from schemas.manifest import DatasetManifest, ShardReceipt

pytestmark = pytest.mark.usefixtures("little_memory")
STORE = Storage()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "data"
    small_dataset(folder)
    return folder


def read_all(folder: Path) -> None:
    ledger = open_ledger(str(folder))
    for _ in ledger.rows():
        pass


@FEW
@given(st.randoms(use_true_random=False), JSON)
def test_a_manifest_with_any_value_anywhere(dataset, rng, value):
    text = (dataset / "manifest.json").read_text()
    data = json.loads(text)
    where = rng.choice(paths(data))
    made = json.dumps(replaced(data, where, value))
    survives(lambda: DatasetManifest.from_json(made).to_json())


@FEW
@given(EDITS)
def test_a_manifest_with_any_bytes(dataset, edits):
    made = edited((dataset / "manifest.json").read_bytes(), edits)
    survives(lambda: DatasetManifest.from_json(made))


@FEW
@given(JSON)
@example({"shard": "a", "token": "b", "run": "r", "part": {}, "computed": 1, "reused": 0})
def test_receipts_stamps_and_leases_of_any_json(tmp_path, value):
    text = json.dumps(value)
    survives(lambda: ShardReceipt.from_json(text))
    for name in ("exports.json", FILE, MARKER, POINTER, "run.json", "receipt.json", "given.json"):
        (tmp_path / name).write_text(text)
    assert ExportStamp.read(STORE, str(tmp_path)) is None or isinstance(value, dict)
    survives(lambda: standing_manifest(STORE, str(tmp_path)))
    read_receipt(STORE, str(tmp_path / "receipt.json"))
    assert isinstance(read_summary(STORE, str(tmp_path)), dict)
    survives(lambda: read_given(str(tmp_path / "given.json"), STORE))
    with Lease(STORE, str(tmp_path)) as lease:
        lease.take()


@FEW
@given(st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()))
def test_the_pointer_of_a_folder_names_nothing_elsewhere(tmp_path, data):
    memory = f"memory://{tmp_path}/exports"
    STORE.write(f"{memory}/{POINTER}", data)
    found = current_folder(STORE, memory)
    assert found == memory or "/" not in found.removeprefix(memory + "/")


@FEW
@given(st.sampled_from(["images", "annotations"]), EDITS)
def test_a_part_with_any_bytes(dataset, table, edits):
    file = sorted((dataset / table).iterdir())[0]
    sound = file.read_bytes()
    try:
        file.write_bytes(edited(sound, edits))
        survives(lambda: read_all(dataset))
    finally:
        file.write_bytes(sound)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job's folder: a second version of six pictures; one has gone, one came, one is damaged."""
    folder = tmp_path_factory.mktemp("fuzz-job")
    write_pictures(folder / "in", 6)
    (folder / "in" / "broken.png").write_bytes(b"no picture")
    job = otsu_job(folder, execution={"shard_size": 2}, max_failures="any")
    label(job, report=False, export=False)
    min((folder / "in").rglob("p*.png")).unlink()
    write_pictures(folder / "in", 1, prefix="q")
    done = label(job)
    store = Path(held_uri(str(folder / "out")))
    store.parent.mkdir()
    store.write_text(done.manifest.to_json())
    return folder


def files_of(folder: Path, *names: str) -> list[Path]:
    found = sorted(path for name in names for path in folder.glob(name) if path.is_file())
    assert found, names
    return found


@FEW
@given(st.sampled_from(["index/*", "receipts/*", "versions/*.json", "held/*"]), EDITS)
def test_what_a_dataset_remembers_with_any_bytes(labelled, kind, edits):
    out = labelled / "out"
    file = files_of(out, kind)[0]
    sound = file.read_bytes()
    run = json.loads((out / "manifest.json").read_bytes())["config_fingerprint"]
    try:
        file.write_bytes(edited(sound, edits))
        read_index(STORE, str(out), run)
        known_rows(STORE, str(out), run)
        index_covers(STORE, str(out), run, ["a"], 0, "")
        for receipt in (out / "receipts").glob("*"):
            read_receipt(STORE, str(receipt))
        survives(lambda: read_held(STORE, str(out)))
        survives(lambda: list_versions(str(out)))
    finally:
        file.write_bytes(sound)


@FEW
@given(st.sampled_from(["removed", "containers", "locks"]), EDITS)
def test_the_tables_beside_the_parts_with_any_bytes(dataset, tmp_path, kind, edits):
    ids = {"a": np.arange(9)}
    said = write_removed(STORE, str(tmp_path), ids)
    sound = (tmp_path / said["table"]).read_bytes()
    (tmp_path / kind).mkdir(exist_ok=True)
    name = "000001.parquet" if kind == "locks" else "a.parquet"
    (tmp_path / kind / name).write_bytes(edited(sound, edits))
    manifest = DatasetManifest.from_json((dataset / "manifest.json").read_text())
    manifest.removed.update({"table": "removed/a.parquet", "rows": 9})
    manifest.containers.update({"table": "containers/a.parquet"})
    survives(lambda: read_removed(STORE, str(tmp_path), manifest))
    survives(lambda: read_containers(STORE, str(tmp_path), manifest))
    survives(lambda: read_locks(STORE, str(tmp_path)))


@tries(6)
@given(st.randoms(use_true_random=False), EDITS)
def test_a_run_over_a_dataset_with_one_damaged_file(labelled, tmp_path, rng, edits):
    """Whatever is damaged: the next run mends it or says in one line what is wrong."""
    shutil.rmtree(tmp_path / "job", ignore_errors=True)
    shutil.copytree(labelled, tmp_path / "job")
    out = tmp_path / "job" / "out"
    file = rng.choice(files_of(out, "**/*"))
    file.write_bytes(edited(file.read_bytes(), edits))
    job = otsu_job(tmp_path / "job", execution={"shard_size": 2}, max_failures="any")
    survives(lambda: validate(str(out)))
    with suppress(ExecutionError, OverBudgetError):
        survives(lambda: label(job, verify=True, report=rng.random() < 0.3))
    survives(lambda: validate(str(out)))
    survives(lambda: write_report(open_ledger(str(out)), str(tmp_path / "report")))


@FEW
@given(JSON)
@example({"input": [], "output": 3, "model": None})
@example({"input": {"uri": "a"}, "output": "o", "model": {"name": "m"}, "storage": []})
def test_a_config_of_any_shape(value):
    if isinstance(value, dict):
        survives(lambda: JobConfig.parse(value))


@FEW
@given(st.randoms(use_true_random=False), JSON)
def test_a_config_with_any_value_anywhere(rng, value):
    data = otsu_job(Path("/nowhere")).model_dump(mode="json")
    made = replaced(data, rng.choice(paths(data)[1:]), value)
    survives(lambda: JobConfig.parse(made).model_dump_json())


@FEW
@given(st.text(max_size=40))
def test_a_config_file_and_settings_of_any_text(tmp_path, text):
    path = tmp_path / "job.toml"
    path.write_text(text, "utf-8", errors="replace")
    survives(lambda: layered(path, (text,), {}))
