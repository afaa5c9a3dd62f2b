"""How the house looks: folder and file names, lengths, no stray statements."""

from __future__ import annotations

import ast
import importlib.util
import statistics
import sys
from collections import Counter, defaultdict

from source_tree import OURS, ROOT, imports, module_name, relative, sources, tree

BANNED_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}

WALL = 400
"""Lines of a file, at most."""

ROOM = 18
"""Files of a folder, at most."""

TABLE_FOLDERS = {"pipeline/models", "pipeline/exporters", "pipeline/prompts", "pipeline/readers"}
"""Folders whose files are the entries of a table: they may grow with it."""

PROTOCOL_NAMES = {"read"}
"""What every file of a table calls alike: the files of prompts have a `read` each."""

ALONE = {
    "an entry of a table that its importer is": (
        *("evaluation.sources.panoptic", "review.cvat_file", "review.label_studio_file"),
    ),
    "another library than its importer's, which is found by its name": (
        "evaluation.metrics.ap_official",
    ),
    "loaded only by a job that asks for it": ("models.network.tta",),
    "a noun of its own workshop": ("models.sam_core.everything",),
    "a rule that is read and tested without its importer": (
        *("models.network.attention", "models.network.neighbourhood"),
        *("models.network.segformer_head", "models.network.windows", "prompts.match"),
    ),
    "a measure that stands beside what it measures": (
        *("training.nuclei.validate", "review.trust"),
    ),
}
"""Reason → modules of pipeline/ that one file imports and that would fit into it; beside those
that the code itself gives a reason for, see `has_a_reason`."""

ELSEWHERE = {
    "tests/contract/test_exporters.py": (
        *("exporters.coco_instances", "exporters.coco_panoptic", "exporters.coco_parts"),
        *("exporters.semantic_png", "exporters.table", "exporters.json_check"),
        *("exporters.png_check", "exporters.csv_table", "exporters.cvat", "exporters.geojson"),
        *("exporters.hf", "exporters.label_studio", "exporters.overlays", "exporters.pictures"),
        *("exporters.tree", "exporters.webdataset", "exporters.yolo", "readers.relisting"),
        *("schemas.config.export",),
    ),
    "tests/contract/test_families.py": (
        *("models.torchvision_semantic", "models.postprocess.merge"),
        *("models.grids.outputs", "models.grids.geometry", "models.network.query_net"),
        *("models.videomt",),
    ),
    "tests/maskmill/test_command.py": ("maskmill.__main__",),
    "tests/contract/test_segmenters.py": ("models.nuclei.predict",),
    "tests/contract/test_text_families.py": ("models.text.outlines", "models.text.segmenter"),
    "tests/jobs/test_evaluate.py": ("evaluation.metrics.table", "jobs.tables"),
    "tests/pipeline/augment/test_copies.py": ("augment.partners",),
    "tests/pipeline/evaluation/metrics/test_coco_ap.py": (
        *("evaluation.metrics.ap_builtin", "evaluation.metrics.ap_official"),
        *("evaluation.metrics.metric",),
    ),
    "tests/pipeline/evaluation/sources/test_open.py": (
        *("evaluation.sources.coco", "evaluation.sources.dataset", "evaluation.sources.panoptic"),
    ),
    "tests/pipeline/evaluation/test_evaluate_files.py": (
        *("evaluation.metrics.boxes", "evaluation.sources.fields", "evaluation.tally"),
    ),
    "tests/pipeline/review/test_locking.py": ("engine.locked", "ledger.locks"),
    "tests/pipeline/review/test_read.py": (
        *("review.corrections", "review.cvat_file", "review.label_studio_file"),
    ),
    "tests/pipeline/review/test_selection.py": ("review.trust",),
    "tests/pipeline/masks/test_refine.py": ("masks.reshape",),
    "tests/pipeline/models/kernels/test_dense.py": (
        *("models.kernels.dense_launch", "models.kernels.masks", "models.kernels.masks_launch"),
        *("models.kernels.runs", "models.kernels.runs_launch", "models.kernels.sam"),
        *("models.kernels.sam_launch",),
    ),
    "tests/pipeline/models/sam_core/test_decoder.py": (
        *("models.sam_core.attention", "models.sam_core.net", "models.sam_core.parts"),
    ),
    "tests/pipeline/models/test_onnx.py": ("models.checkpoints.onnx_format",),
    "tests/pipeline/models/test_sam.py": ("models.sam_core.checkpoint",),
    "tests/pipeline/models/text/test_detections.py": ("models.text.request",),
    "tests/pipeline/prompts/test_prompts.py": (
        *("prompts.coco_file", "prompts.csv_file", "prompts.dataset_folder"),
        *("prompts.json_file", "prompts.yolo_folder", "prompts.table"),
    ),
    "tests/pipeline/measuring/test_originals.py": ("readers.relisting",),
    "tests/pipeline/readers/test_column.py": ("readers.table_file",),
    "tests/pipeline/readers/test_kinds.py": ("readers.inventory",),
    "tests/pipeline/readers/test_webdataset.py": (
        *("readers.options", "readers.tar_samples", "readers.tar_sources"),
    ),
    "tests/end_to_end/test_broken_inputs.py": ("report.left_out", "schemas.containers"),
    "tests/pipeline/report/test_write.py": ("report.figures", "report.overview", "report.page"),
    "tests/pipeline/tiling/test_stitch.py": ("tiling.seams",),
    "tests/pipeline/training/nuclei/test_data.py": ("training.nuclei.synthetic",),
    "tests/pipeline/validation/test_validate.py": (
        *("validation.findings", "validation.masks", "validation.parts", "validation.rows"),
    ),
    "tests/schemas/config/test_augment.py": ("schemas.config.augment_steps",),
    "tests/schemas/config/test_job.py": ("schemas.config.prompts", "schemas.config.section"),
    "tests/contract/test_formats.py": ("schemas.coco",),
    "tests/pipeline/history/test_versions.py": (
        "jobs.diff",
        "jobs.versions",
        "schemas.config.history",
    ),
    "tests/pipeline/storage/test_storage_bodies.py": ("storage.bodies",),
    "tests/pipeline/engine/test_plan.py": ("history.standing",),
    "tests/pipeline/ledger/test_parts.py": ("ledger.part_counts",),
    "tests/pipeline/ledger/test_ledger.py": ("ledger.receipts",),
    "tests/pipeline/history/test_night.py": ("ledger.removed",),
    "tests/pipeline/engine/test_session.py": ("storage.processes",),
    "": ("errors",),  # names alone
}
"""Test → files that it holds, which have none of their own name."""


def test_no_root_folder_hides_a_library():
    own = {*OURS, "tests", "bench", "deploy", "docs", "examples", "demo", "out", "build", "dist"}
    for folder in ROOT.iterdir():
        if folder.is_dir() and not folder.name.startswith(".") and folder.name not in own:
            spec = importlib.util.find_spec(folder.name)
            installed = spec is not None and not str(spec.origin or "").startswith(str(ROOT))
            assert not installed, f"{folder.name}/ hides an installed library in every worker"
            raise AssertionError(f"{folder.name}/ is no top-level folder of this project")


def test_names_say_what_a_file_does():
    wrong = [
        relative(path)
        for path in sources(*OURS, "tests", "bench", "examples")
        if {*path.relative_to(ROOT).parent.parts, path.stem} & BANNED_NAMES
    ]
    assert not wrong, wrong


def test_init_files_hold_no_code_that_runs():
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.ClassDef, ast.FunctionDef)
    wrong = [
        f"{relative(path)}:{node.lineno}"
        for path in sources()
        if path.name == "__init__.py"
        for node in tree(path).body
        if not isinstance(node, allowed)
        and not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    assert not wrong, wrong


def test_no_print_and_no_assert_outside_the_jobs():
    wrong = []
    for path in sources("schemas", "pipeline"):
        speaks = relative(path) == "pipeline/engine/progress.py"  # what a job shows while it works
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Assert):
                wrong.append(f"{relative(path)}:{node.lineno} asserts")
            elif not speaks and isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
                wrong.append(f"{relative(path)}:{node.lineno} prints")
    assert not wrong, "\n".join(wrong)


def test_files_stay_short():
    lengths = {relative(path): len(path.read_text("utf-8").splitlines()) for path in sources()}
    long = {name: length for name, length in lengths.items() if length > WALL}
    assert not long, long
    assert statistics.median(lengths.values()) < 200


def modules() -> dict[str, str]:
    """Module without "pipeline." → path, of every file but the rooms' own."""
    return {
        module_name(path).removeprefix("pipeline."): relative(path)
        for path in sources()
        if path.name != "__init__.py"
    }


def test_folders_show_few_files():
    rooms = Counter(path.rpartition("/")[0] for path in modules().values())
    full = {room: n for room, n in rooms.items() if n > ROOM and room not in TABLE_FOLDERS}
    assert not full, full


def test_no_two_public_names_are_alike():
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for path in sources("pipeline"):
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                homes[node.name].append(relative(path))
    twice = {name: at for name, at in homes.items() if len(at) > 1 and name not in PROTOCOL_NAMES}
    assert not twice, twice


EVERYTHING = "".join(path.read_text("utf-8") for path in sources())
"""The text of all sources."""


def libraries(path: str) -> set[str]:
    """What a file imports that is neither ours, nor Python's, nor NumPy."""
    every = {item.module.partition(".")[0] for item in imports(ROOT / path)}
    return every - {*OURS, *sys.stdlib_module_names, "numpy", "__future__"}


def has_a_reason(path: str, user: str, siblings: int) -> bool:
    """Whether a file that `user` alone imports has a reason to be one that the code shows.

    It uses a library that the other does not; or it is one of three or more in a folder that the
    other alone imports, which is then their table; or a table names it as "module:Class".
    """
    module = module_name(ROOT / path)
    return bool(libraries(path) - libraries(user)) or siblings >= 3 or f'"{module}:' in EVERYTHING


def test_a_helper_of_one_file_lives_in_that_file():
    importers: defaultdict[str, set[str]] = defaultdict(set)
    for path in sources():
        for item in imports(path):
            if item.module != module_name(path):
                importers[item.module].add(relative(path))
    lines = {relative(path): len(path.read_text("utf-8").splitlines()) for path in sources()}
    users = {}
    for name, path in modules().items():
        own = importers[name if path.startswith(("jobs", "schemas")) else f"pipeline.{name}"]
        user = next(iter(own), "jobs/")
        if len(own) == 1 and user[:5] != "jobs/" and lines[path] + lines[user] <= WALL:
            users[name] = user
    rooms = Counter((user, name.rpartition(".")[0]) for name, user in users.items())
    lonely = {
        name
        for name, user in users.items()
        if not has_a_reason(modules()[name], user, rooms[user, name.rpartition(".")[0]])
    }
    excused = {name for names in ALONE.values() for name in names}
    assert not lonely - excused, "one file imports each of these: put it there, or give a reason"
    assert not excused - modules().keys(), "no such file any more"


def test_tests_mirror_the_source():
    tests = {path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    own = defaultdict(set)
    for test in tests:
        words = test.stem.removeprefix("test_").split("_")
        for end in range(1, len(words) + 1):
            own[(test.parent / "_".join(words[:end])).as_posix()].add(test)
    excused = {name for names in ELSEWHERE.values() for name in names}
    bare = {name for name, path in modules().items() if not own[path.removesuffix(".py")]}
    assert not bare - excused, f"no test_<file>.py, and no reason: {sorted(bare - excused)}"
    assert not excused - modules().keys(), "no such file any more"
    gone = [test for test in ELSEWHERE if test and not (ROOT / test).is_file()]
    assert not gone, gone
