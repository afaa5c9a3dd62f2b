"""jobs.config prints every key; its TOML is a job's."""

from __future__ import annotations

import json
import tomllib

from typer.testing import CliRunner

from jobs.config import app

RUNNER = CliRunner()


def test_a_prefix_chooses_keys() -> None:
    result = RUNNER.invoke(app, ["tiling."])
    assert result.exit_code == 0
    assert "tiling.overlap" in result.output
    assert "model.threshold" not in result.output


def test_an_unknown_prefix_names_the_nearest() -> None:
    result = RUNNER.invoke(app, ["model.treshold"])
    assert result.exit_code == 2
    assert "did you mean 'model.threshold'" in result.output


def test_toml_json_and_schema_can_be_read() -> None:
    text = RUNNER.invoke(app, ["--toml"]).output
    assert tomllib.loads(text)["tiling"] == {}
    assert RUNNER.invoke(app, ["--toml", "--json"]).exit_code == 2
    keys = json.loads(RUNNER.invoke(app, ["--json"]).output)
    assert {"name", "kind", "default", "meaning"} == keys[0].keys()
    schema = json.loads(RUNNER.invoke(app, ["--json-schema"]).output)
    assert "tiling" in schema["properties"]
