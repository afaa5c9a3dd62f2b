"""What deploy/ hands to other tools is what they take."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from jobs.label import app

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"

WORDS = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0}
POD = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["containers"],
            "additionalProperties": False,
            "properties": {
                "terminationGracePeriodSeconds": COUNT,
                "containers": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["name", "image"],
                        "additionalProperties": False,
                        "properties": {
                            "name": {"type": "string", "pattern": "^[a-z0-9-]+$"},
                            "image": {"type": "string"},
                            "command": {"type": "array", "items": {"type": "string"}},
                            "env": {"type": "array", "items": WORDS},
                            "envFrom": {"type": "array", "items": {"type": "object"}},
                            "resources": {
                                "type": "object",
                                "additionalProperties": False,
                                "properties": {"requests": WORDS, "limits": WORDS},
                            },
                        },
                    },
                },
            },
        }
    },
}
RAY_JOB: dict[str, Any] = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "required": ["entrypoint", "rayClusterSpec"],
            "additionalProperties": False,
            "properties": {
                "entrypoint": {"type": "string"},
                "shutdownAfterJobFinishes": {"type": "boolean"},
                "ttlSecondsAfterFinished": COUNT,
                "backoffLimit": COUNT,
                "rayClusterSpec": {
                    "type": "object",
                    "required": ["headGroupSpec"],
                    "additionalProperties": False,
                    "properties": {
                        "rayVersion": {"type": "string"},
                        "enableInTreeAutoscaling": {"type": "boolean"},
                        "headGroupSpec": {
                            "type": "object",
                            "required": ["rayStartParams", "template"],
                            "additionalProperties": False,
                            "properties": {"rayStartParams": WORDS, "template": POD},
                        },
                        "workerGroupSpecs": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": [
                                    *("groupName", "minReplicas", "maxReplicas"),
                                    *("rayStartParams", "template"),
                                ],
                                "additionalProperties": False,
                                "properties": {
                                    "groupName": {"type": "string"},
                                    "replicas": COUNT,
                                    "minReplicas": COUNT,
                                    "maxReplicas": COUNT,
                                    "rayStartParams": WORDS,
                                    "template": POD,
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
"""The fields of KubeRay's v1 types that the file uses, with their types; others are refused, as the
operator's own schema prunes what it does not know. Source: ray-operator/apis/ray/v1 of KubeRay."""


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())


def test_the_ray_job_is_one_of_kuberay_s(job):
    jsonschema.validate(job, RAY_JOB)


def test_its_command_is_one_of_ours(job):
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:3] == ["python", "-m", "jobs.label"]
    known = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    assert all(word in known for word in words if word.startswith("--"))
    asked = int(re.search(r"max_workers=(\d+)", job["spec"]["entrypoint"])[1])
    assert asked == job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"]


def test_hadolint_has_nothing_to_say_of_the_dockerfile():
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [str(hadolint), str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_slurm_script_is_bash():
    done = subprocess.run(
        ["bash", "-n", str(DEPLOY / "slurm.sh")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_crontab_has_five_fields_and_a_command_of_ours():
    lines = [
        line
        for line in (DEPLOY / "crontab").read_text().splitlines()
        if line and not line.startswith("#") and "=" not in line.split()[0]
    ]
    assert lines
    for line in lines:
        fields = line.split(maxsplit=5)
        assert all(re.fullmatch(r"[\d*,/-]+", field) for field in fields[:5]), line
        assert "jobs.label" in fields[5]
