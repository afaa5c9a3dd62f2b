"""Exit codes and the one line on standard error."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from jobs.console import BAD_USAGE, FAILED, INTERRUPTED, exit_codes
from pipeline.errors import ExecutionError
from pipeline.storage.errors import StorageError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_signals_and_log() -> Iterator[None]:
    """`exit_codes` belongs to a process; here it is taken back."""
    handler = signal.getsignal(signal.SIGTERM)
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    signal.signal(signal.SIGTERM, handler)
    root.handlers[:] = before
    root.setLevel(level)


def left_with(error: BaseException, *, verbose: bool = False) -> int:
    with pytest.raises(typer.Exit) as caught, exit_codes(verbose=verbose):
        raise error
    return caught.value.exit_code


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("task: no such"), BAD_USAGE, "error: task: no such"),
        (StorageError("no space left: /out"), BAD_USAGE, "error: no space left: /out"),
        (
            FileNotFoundError(2, "No such file", "x"),
            BAD_USAGE,
            "error: [Errno 2] No such file: 'x'",
        ),
        (
            ExecutionError("workers die"),
            INTERRUPTED,
            "workers die; finished shards are kept, the same command goes on",
        ),
        (
            KeyboardInterrupt(),
            INTERRUPTED,
            "interrupted; the same command goes on where it stopped",
        ),
    ],
)
def test_each_end_has_its_code_and_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert left_with(error) == code
    assert capsys.readouterr() == ("", line + "\n")


def test_codes_are_those_of_the_documentation() -> None:
    assert (FAILED, BAD_USAGE, INTERRUPTED) == (1, 2, 3)


def test_a_job_that_ends_well_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with exit_codes():
        pass
    assert capsys.readouterr() == ("", "")


def test_a_job_s_own_exit_passes() -> None:
    with pytest.raises(typer.Exit) as caught, exit_codes():
        raise typer.Exit(FAILED)
    assert caught.value.exit_code == FAILED


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), exit_codes():
        _ = 1 / 0


def script(body: str) -> list[str]:
    text = f"""
import logging, sys, time
import typer
from jobs.console import exit_codes
from pipeline.errors import ExecutionError
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
@app.command()
def main(verbose: bool = typer.Option(False, "-v")):
    with exit_codes(verbose=verbose):
        {body}
app()
"""
    return [sys.executable, "-c", text]


def run(body: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [*script(body), *flags]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_only_verbose_shows_the_traceback() -> None:
    plain = run("raise ValueError('the reason')")
    assert (plain.returncode, plain.stdout, plain.stderr) == (2, "", "error: the reason\n")
    loud = run("raise ValueError('the reason')", "-v")
    assert loud.returncode == 2
    assert "Traceback (most recent call last)" in loud.stderr
    assert loud.stderr.endswith("error: the reason\n")


def test_warnings_are_shown_and_more_with_verbose() -> None:
    body = "logging.getLogger('x').warning('hot'); logging.getLogger('x').info('cold')"
    assert run(body).stderr == "WARNING: hot\n"
    loud = run(body, "-v").stderr
    assert "WARNING x: hot" in loud
    assert "INFO x: cold" in loud


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_in_3_and_says_how_to_go_on(number: signal.Signals) -> None:
    body = "print('up', flush=True); time.sleep(60)"
    with subprocess.Popen(
        script(body), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        time.sleep(0.05)
        os.kill(process.pid, number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED
    assert err == "interrupted; the same command goes on where it stopped\n"
