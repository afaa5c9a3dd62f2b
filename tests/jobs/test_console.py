"""Exit codes and the one line on standard error."""

from __future__ import annotations

import importlib
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
from rich.text import Text

from jobs.console import BAD_USAGE, FAILED, INTERRUPTED, exit_codes, seconds_of
from maskmill.command import COMMANDS
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


def test_a_second_signal_ends_at_once_in_3() -> None:
    body = (
        "try:\n"
        "            print('up', flush=True); time.sleep(60)\n"
        "        finally:\n"
        "            print('cleaning', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        script(body), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in ("up\n", "cleaning\n"):
            assert process.stdout.readline() == line
            time.sleep(0.05)
            os.kill(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED
    assert err == "interrupted twice, left at once; the same command goes on\n"


def guarded_by(body: str) -> subprocess.CompletedProcess[str]:
    text = f"import os, signal, sys\nfrom jobs.console import guarded\ndef job():\n    {body}\n"
    return subprocess.run(
        [sys.executable, "-c", text + "guarded(job)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("os._exit(1)", "was ended by Ray with code 1"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by signal 9 (often: out of memory)"),
        ("os.kill(os.getpid(), signal.SIGABRT)", "was killed by signal 6"),
    ],
)
def test_an_end_that_nobody_catches_is_3_and_one_sentence(body: str, says: str) -> None:
    done = guarded_by(body)
    assert done.returncode == INTERRUPTED
    assert done.stderr == (
        f"the run's process {says}; finished shards are kept, the same command goes on\n"
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [("pass", 0), ("sys.exit(0)", 0), ("sys.exit(1)", 1), ("sys.exit(2)", 2), ("sys.exit(15)", 3)],
)
def test_a_guarded_job_keeps_its_own_code(body: str, code: int) -> None:
    assert guarded_by(body).returncode == code


def test_nothing_is_torn_down_after_a_guarded_job() -> None:
    """Python gives signals back before it does: a second Ctrl-C then killed what was done."""
    text = (
        "import os\nfrom jobs.console import guarded\n"
        "class Slow:\n    def __del__(self): os.write(1, b'torn down')\n"
        "kept = Slow()\nguarded(lambda: None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_a_guarded_job_gets_the_signal_once_and_dies_with_its_parent() -> None:
    body = (
        "import time\n    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
        "    print(os.getpid(), flush=True); time.sleep(60)"
    )
    text = f"import os, signal, sys\nfrom jobs.console import guarded\ndef job():\n    {body}\n"
    for number, code in ((signal.SIGTERM, 3), (signal.SIGKILL, -signal.SIGKILL)):
        with subprocess.Popen(
            [sys.executable, "-c", text + "guarded(job)"], cwd=ROOT, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            child = int(process.stdout.readline())
            process.send_signal(number)
            assert process.wait(30) == code
        for _ in range(100):
            if not Path(f"/proc/{child}").exists():
                break
            time.sleep(0.1)
        else:
            pytest.fail("the child lives on")


def test_a_signal_right_after_the_fork_is_handed_on_too() -> None:
    """The parent is slow to go on; the child has begun already."""
    body = (
        "import time\n    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
        "    print(os.getpid(), flush=True); time.sleep(60)"
    )
    text = (
        "import os, signal, sys, time\nfrom jobs.console import guarded\n"
        "close = os.close\n"
        "def slow(number):\n    time.sleep(1)\n    close(number)\n"
        "fork = os.fork\n"
        "def forked():\n    child = fork()\n    os.close = slow if child else close\n"
        "    return child\n"
        f"os.fork = forked\ndef job():\n    {body}\nguarded(job)"
    )
    with subprocess.Popen([sys.executable, "-c", text], cwd=ROOT, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        assert int(one.stdout.readline())
        one.send_signal(signal.SIGTERM)
        assert one.wait(30) == INTERRUPTED


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1.5h", 5400), ("2d", 172800)]
)
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text, flag="--older-than") == seconds
    with pytest.raises(ValueError, match="--older-than"):
        seconds_of(text + "x", flag="--older-than")


def test_log_lines_and_errors_obey_no_escapes_and_hold_no_secret() -> None:
    body = (
        "logging.getLogger('x').warning('a\\x1b[2Jb s3://K:SECRET@b'); raise ValueError('c\\x9b')"
    )
    assert run(body).stderr == "WARNING: a\\x1b[2Jb s3://b\nerror: c\\x9b\n"


@pytest.mark.parametrize("module", [module for module, _ in COMMANDS.values()])
def test_no_word_of_a_help_is_taken_for_a_tag(module):
    """rich reads "[export]" as a tag and shows nothing: such words are escaped."""
    app = importlib.import_module(module).app
    command = typer.main.get_command(app)
    texts = [command.help, command.epilog, *(getattr(item, "help", "") for item in command.params)]
    for text in filter(None, texts):
        if app.rich_markup_mode == "rich":
            assert Text.from_markup(text).plain == text.replace("\\[", "["), text


def test_defaults_in_words_are_shown():
    shown = subprocess.run(
        [sys.executable, "-m", "jobs.label", "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "160"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "[default: (the pinned one)]" in shown
    assert "[default: (as many as fit)]" in shown
