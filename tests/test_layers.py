"""The laws of the house: who may import what. Read with `ast`, so nothing has to be importable."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest
from source_tree import OURS, ROOT, imports, module_name, relative, sources, tree, within


@dataclass(frozen=True, slots=True)
class Layer:
    """Files that match `files`, and which of our modules they never import."""

    files: tuple[str, ...]
    never: tuple[str, ...]


ENGINE = (
    "run",
    "plan",
    "asked",
    "execute",
    "pool",
    "worker",
    "feed",
    "prepare",
    "progress",
    "prune",
)
PLUGINS = (
    "readers", "prompt_files", "models", "train", "training", "exporters", "report", "validation",
    "validate", "evaluation", "evaluate", "measuring", "measure", "compare",
)  # fmt: skip
MAY = {
    "report": {"readers"},  # it shows the input's pictures
    "train": {"models"},  # the front of models/training*.py, free of torch
    # It reads pictures, and labels as evaluation reads ground truth; networks learn in models.
    "training": {"readers", "evaluation", "models"},
    "evaluate": {"evaluation"},
    "measuring": {"readers", "evaluation"},  # it reads pictures, and matches as evaluation does
    "measure": {"measuring"},
    "compare": {"measuring"},
    "validate": {"validation"},
    "validation": {"exporters"},  # it holds an export against what its exporter writes
}


def below(*names: str) -> tuple[str, ...]:
    return tuple(f"pipeline.{name}" for name in names)


def files(*names: str) -> tuple[str, ...]:
    return tuple(f"pipeline/{name}{end}" for name in names for end in (".py", "/*"))


LAYERS = {
    "L0 schemas": Layer(("schemas/*",), ("pipeline", "jobs")),
    **{
        f"L2 {name}": Layer(
            files(name),
            ("jobs", *below(*ENGINE), *below(*(set(PLUGINS) - {name} - MAY.get(name, set())))),
        )
        for name in PLUGINS
    },
    "L3 engine": Layer(files(*ENGINE), ("jobs",)),
    "L1 pieces": Layer(("pipeline/*",), ("jobs", *below(*ENGINE), *below(*PLUGINS))),
    "L4 jobs": Layer(("jobs/*",), ()),
}
"""The first layer whose pattern matches a file is its layer; a new file of pipeline/ is L1."""

HOMES = {
    "ray": (
        "pipeline/execute.py",
        "pipeline/training/workers.py",  # Ray Train: workers that learn know each other
    ),
    "fsspec": ("pipeline/storage.py",),
    "s3fs": ("pipeline/storage.py",),
    "pycocotools": (
        "pipeline/masks.py",
        "pipeline/evaluate*.py",
        "pipeline/evaluation/*",
        "pipeline/validation/pycoco.py",  # the second opinion of jobs.validate
    ),
    "torch": ("pipeline/models/*",),
    "torchvision": ("pipeline/models/*",),
    "transformers": ("pipeline/models/*",),
    "segment_anything": ("pipeline/models/*",),
    "typer": ("jobs/*",),
    "rich": ("jobs/*", "pipeline/progress.py"),
}
"""Library → the only files that may import it."""

SCHEMA_LIBRARIES = {"numpy", "pyarrow", "pydantic"}

INTERNALS = (
    "pipeline.execute", "pipeline.shards", "pipeline.parts", "pipeline.images", "pipeline.masks",
    "pipeline.rle", "pipeline.overlap", "pipeline.refine", "pipeline.transforms",
    "pipeline.range_file", "pipeline.local_files",
)  # fmt: skip
"""What jobs do not reach into; nor into a single reader, model family or exporter."""

TABLES = {
    "pipeline.readers": ("__init__.py", "READERS"),
    "pipeline.models": ("__init__.py", "FAMILIES"),
    "pipeline.exporters": ("table.py", "EXPORTERS"),
}
"""Package → file and name of its table of lazy "module:name" strings."""


def layer_of(path: Path) -> tuple[str, Layer]:
    name = relative(path)
    for title, layer in LAYERS.items():
        if any(fnmatch(name, pattern) for pattern in layer.files):
            return title, layer
    raise AssertionError(f"{name} belongs to no layer")


def test_there_is_something_to_hold():
    assert {module_name(path).split(".")[0] for path in sources()} == set(OURS)


def test_layers_import_downward_only():
    wrong = []
    for path in sources():
        title, layer = layer_of(path)
        wrong += [
            f"{relative(path)}:{item.line} ({title}) imports {item.module}"
            for item in imports(path)
            if within(item.module, (*layer.never, "tests", "bench", "examples"))
        ]
    assert not wrong, "\n".join(wrong)


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
            inside = (
                item.module.rpartition(".")[0] in TABLES and item.module != "pipeline.models.info"
            )
            if inside or within(item.module, INTERNALS):
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
    """A registry, read without importing it: must be a literal dict of strings."""
    file, name = TABLES[package]
    for node in tree(ROOT.joinpath(*package.split("."), file)).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            return ast.literal_eval(node.value)  # pyright: ignore
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
        if not (package == "pipeline.exporters" and within(module_name(path), below("validation")))
        for item in imports(path)
        if item.module in entries - {module_name(path)}
    ]
    assert not wrong, "\n".join(wrong)


def test_the_driver_never_imports_torch():
    code = (
        "import sys, pipeline.run, jobs.label\n"
        "heavy = {'torch', 'torchvision', 'transformers', 'ray'} & set(sys.modules)\n"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
