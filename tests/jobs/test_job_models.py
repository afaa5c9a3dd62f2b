"""The table of models."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from jobs.models import app
from pipeline.models import BUNDLED


def test_every_bundled_model_is_listed_with_licence_and_hash() -> None:
    result = CliRunner().invoke(app, ["--json"])
    assert result.exit_code == 0
    rows = {row["name"]: row for row in json.loads(result.output)}
    assert set(rows) == set(BUNDLED)
    assert all(row["licence"] and len(row["weights_sha256"]) == 64 for row in rows.values())


def test_the_table_names_every_model() -> None:
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 0
    assert all(name in result.output for name in BUNDLED)
