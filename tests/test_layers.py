"""The laws of the house: who may import what. Read with `ast`, so nothing has to be importable."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from fnmatch import fnmatch

import pytest
from source_tree import OURS, ROOT, imports, module_name, relative, sources, tree, within

MAY: dict[str, set[str]] = {
    # floor 1: schemas and one library each
    "errors": set(),
    "storage": set(),
    "masks": set(),
    # floor 2
    "images": {"storage"},
    "readers": {"storage"},
    "ledger": {"storage", "errors"},
    "tiling": {"masks"},
    # floor 3
    "prompts": {"images", "ledger", "storage", "masks"},
    "augment": {"ledger", "storage", "masks", "images"},
    "exporters": {"ledger", "storage", "masks", "images", "readers"},
    "evaluation": {"ledger", "storage", "masks", "images"},
    "report": {"ledger", "storage", "masks", "images", "readers"},
    # floor 4
    "models": {"prompts", "tiling", "images", "masks"},
    "measuring": {"evaluation", "ledger", "storage", "masks", "images", "readers"},
    "history": {"augment", "ledger", "storage"},
    "review": {"evaluation", "ledger", "storage", "masks"},
    "validation": {"exporters", "augment", "ledger", "storage", "masks"},
    # floor 5
    "engine": {
        *("errors", "storage", "masks", "images", "readers", "ledger", "tiling"),
        *("prompts", "augment", "exporters", "evaluation", "report", "measuring", "validation"),
        "history",
        # what a model is, never a family; the two others are free of torch
        *("models.checkpoints", "models.naming.names", "models.tiling.tiled"),
    },
    "training": {
        *("errors", "storage", "masks", "images", "readers", "ledger", "augment", "evaluation"),
        *("models.checkpoints", "training.learn"),
    },
    "training.learn": {"models.checkpoints", "models.grids", "models.network"},
    "training.nuclei": {"models.checkpoints", "models.nuclei", "images", "masks", "training.learn"},
}
"""Room of pipeline/ → the rooms that it may import; a room may always import itself."""

MODELS: list[tuple[str, ...]] = [
    ("grids",),
    ("kernels",),
    ("checkpoints",),
    ("postprocess",),
    ("network", "nuclei", "tiling"),
    ("sam_core",),
    ("text",),
    ("naming",),
    ("",),  # the families
]
"""The floors inside models/, lowest first; each imports only what stands below, and itself."""

HOMES = {
    "ray": (
        "pipeline/engine/execute.py",
        "pipeline/engine/session.py",
        "pipeline/training/workers.py",  # Ray Train: workers that learn know each other
    ),
    "fsspec": ("pipeline/storage/storage.py",),
    "s3fs": ("pipeline/storage/storage.py",),
    "pycocotools": (
        "pipeline/masks/codec.py",
        "pipeline/evaluation/*",
        "pipeline/validation/exports.py",  # the second opinion of jobs.validate
    ),
    **dict.fromkeys(
        ("torch", "torchvision", "transformers", "segment_anything"),
        (
            *("pipeline/models/*", "pipeline/training/learn/*", "pipeline/training/nuclei/*"),
            "jobs/doctor.py",  # whether they load is its question
        ),
    ),
    "typer": ("jobs/*",),
    "rich": ("jobs/*", "pipeline/engine/progress.py"),
}
"""Library → the only files that may import it."""

SCHEMA_LIBRARIES = {"numpy", "pyarrow", "pydantic"}

INSIDE = {
    *("pipeline.engine.execute", "pipeline.engine.shards", "pipeline.ledger.parts"),
    *("pipeline.images.decode", "pipeline.masks", "pipeline.augment", "pipeline.tiling"),
    *("pipeline.storage.remote", "pipeline.storage.local", "pipeline.models.network"),
}
"""What jobs do not reach into; nor into a single reader, model family or exporter."""

TABLES = {
    "pipeline.readers": ("__init__.py", "READERS"),
    "pipeline.models": ("checkpoints/families.py", "FAMILIES"),
    "pipeline.exporters": ("table.py", "EXPORTERS"),
}
"""Package → file and name of its table of lazy "module:name" strings."""


def room_of(module: str) -> str:
    """Room of a module of pipeline/; "" for `pipeline` itself."""
    parts = module.split(".")[1:]
    if parts[:1] == ["training"] and parts[1:2] in (["learn"], ["nuclei"]):
        return ".".join(parts[:2])
    return parts[0] if parts else ""


def test_there_is_something_to_hold():
    assert {module_name(path).split(".")[0] for path in sources()} == set(OURS)


def test_every_room_is_in_the_table():
    rooms = {room_of(module_name(path)) for path in sources("pipeline")}
    assert rooms - {""} == set(MAY)


def test_rooms_import_what_stands_below():
    wrong = []
    for path in sources("pipeline"):
        room = room_of(module_name(path))
        allowed = tuple(f"pipeline.{name}" for name in {room, *MAY.get(room, set())})
        wrong += [
            f"{relative(path)}:{item.line} imports {item.module}"
            for item in imports(path)
            if within(item.module, ("pipeline", "jobs", "tests", "bench", "examples"))
            and not within(item.module, allowed)
        ]
    assert not wrong, "\n".join(wrong)


def floor_of(module: str) -> int:
    """The floor inside models/ of one of its modules."""
    parts = module.split(".")[2:]
    shop = parts[0] if parts and (ROOT / "pipeline/models" / parts[0]).is_dir() else ""
    return next(number for number, shops in enumerate(MODELS) if shop in shops)


def test_workshops_of_models_import_what_stands_below():
    wrong = []
    for path in sources("pipeline/models"):
        own = module_name(path)
        if own == "pipeline.models":
            continue
        wrong += [
            f"{relative(path)}:{item.line} imports {item.module}"
            for item in imports(path)
            if within(item.module, ("pipeline.models",))
            and floor_of(item.module) >= floor_of(own)
            and item.module.split(".")[:3] != own.split(".")[:3]
        ]
    assert not wrong, "\n".join(wrong)


def test_no_circle_of_files():
    """Of imports made when a file is imported."""
    graph = {
        module_name(path): {i.module for i in imports(path) if i.at_import} for path in sources()
    }
    done: set[str] = set()
    for start in sorted(graph):
        stack, trail = [(start, iter(sorted(graph[start] & graph.keys())))], [start]
        while stack:
            name, rest = stack[-1]
            step = next((each for each in rest if each not in done), None)
            if step is None:
                done.add(name)
                stack.pop()
                trail.pop()
                continue
            assert step not in trail, " → ".join([*trail[trail.index(step) :], step])
            trail.append(step)
            stack.append((step, iter(sorted(graph[step] & graph.keys()))))


def test_schemas_import_only_their_three_libraries():
    allowed = SCHEMA_LIBRARIES | set(sys.stdlib_module_names) | {"schemas"}
    wrong = [
        f"{relative(path)}:{item.line} imports {item.module}"
        for path in sources("schemas")
        for item in imports(path)
        if item.module.split(".")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_one_home(library):
    wrong = [
        f"{relative(path)}:{item.line}"
        for path in sources()
        if not any(fnmatch(relative(path), home) for home in HOMES[library])
        for item in imports(path)
        if item.module.split(".")[0] == library
    ]
    assert not wrong, f"{library} belongs in {HOMES[library]}, also imported in {wrong}"


def test_jobs_use_only_public_functions():
    wrong = []
    for path in sources("jobs"):
        for item in imports(path):
            entry = item.module in {t.partition(":")[0] for p in TABLES for t in table(p).values()}
            if entry or within(item.module, tuple(INSIDE)):
                wrong.append(f"{relative(path)}:{item.line} imports {item.module}")
        wrong += [
            f"{relative(path)}:{node.lineno} imports the private {alias.name}"
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline")
            for alias in node.names
            if alias.name.startswith("_")
        ]
    assert not wrong, "\n".join(wrong)


def table(package: str) -> dict[str, str]:
    """A registry, read without importing it: a literal dict of strings, or of rows led by one."""
    file, name = TABLES[package]
    for node in tree(ROOT.joinpath(*package.split("."), file)).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            assert isinstance(node.value, ast.Dict), f"{name} is no literal dict"
            return {
                ast.literal_eval(key): ast.literal_eval(  # pyright: ignore
                    value.args[0] if isinstance(value, ast.Call) else value
                )
                for key, value in zip(node.value.keys, node.value.values, strict=True)
            }
    raise AssertionError(f"{package} has no {name}")


@pytest.mark.parametrize("package", TABLES)
def test_registries_are_literal_and_resolve(package):
    entries = table(package)
    assert entries
    for key, target in entries.items():
        module, _, name = target.partition(":")
        assert key == key.lower()
        assert module.startswith(f"{package}.")
        assert isinstance(getattr(importlib.import_module(module), name), type), target


@pytest.mark.parametrize("package", TABLES)
def test_table_entries_are_known_to_the_table_alone(package):
    entries = {target.partition(":")[0] for target in table(package).values()}
    wrong = [
        f"{relative(path)}:{item.line} imports {item.module}"
        for path in sources()
        if not (
            package == "pipeline.exporters"
            and within(module_name(path), ("pipeline.validation", package))
        )
        for item in imports(path)
        if item.module in entries - {module_name(path)}
    ]
    assert not wrong, "\n".join(wrong)


def test_public_names_resolve():
    import pipeline

    for name in pipeline.PUBLIC:
        assert callable(getattr(pipeline, name)), name


def test_the_driver_never_imports_torch():
    code = (
        "import sys, pipeline.engine.run, jobs.label\n"
        "heavy = {'torch', 'torchvision', 'transformers', 'ray'} & set(sys.modules)\n"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
