"""jobs.doctor: what is here, what is missing, and an exit code that a script can use."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from jobs import doctor

RUNNER = CliRunner()


def test_this_machine_is_well() -> None:
    result = RUNNER.invoke(doctor.app, ["--json"])
    assert result.exit_code == 0, result.output
    found = {item["what"]: item for item in json.loads(result.output)}
    assert {"Python", "torch", "ray", "transformers", "disk here", "processors"} <= found.keys()
    assert not any(item["fatal"] for item in found.values())


def test_a_missing_library_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    own = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "ray" else own(name))
    result = RUNNER.invoke(doctor.app, [])
    assert result.exit_code == 1
    assert "✗ ray" in result.output
    assert "pip install 'ray>=" in result.output


def test_an_old_library_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    own = doctor._version
    old = {"transformers": "4.57.0"}
    monkeypatch.setattr(doctor, "_version", lambda name: old.get(name) or own(name))
    assert RUNNER.invoke(doctor.app, []).exit_code == 1
