"""What every job does at its edges: exit codes, one-line errors, log level. Not a job itself."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import typer

from pipeline.errors import ExecutionError, OverBudgetError
from schemas.config.history import duration_s
from schemas.names import printable, without_secrets

OK, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 3
GO_ON = "finished shards are kept, the same command goes on"
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def _early(_signal: int, _frame: Any) -> None:
    """A signal while the job's imports take their seconds: there is nothing to finish yet."""
    os.write(2, b"interrupted before it began; the same command goes on\n")
    os._exit(INTERRUPTED)


if str(getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", "")).startswith("jobs."):
    for _number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(_number, _early)


@contextmanager
def exit_codes(*, verbose: bool = False) -> Iterator[None]:
    """Turns what a job raises into its exit code and one line on standard error.

    ValueError and OSError (bad usage, config, input or output): 2. ExecutionError, Ctrl-C and
    SIGTERM (stopped, but what is finished is kept): 3; a second signal ends at once, also in 3.
    `verbose` shows the traceback too.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _OneLine("%(levelname)s %(name)s: %(message)s" if verbose else "%(levelname)s: %(message)s")
    )
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, handlers=[handler])
    interrupt = _interrupt()
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        _leave("interrupted; the same command goes on where it stopped", INTERRUPTED)
    except OverBudgetError as error:
        for line in error.first:
            say(f"  {line}", err=True)
        _leave(str(error), FAILED)
    except ExecutionError as error:
        _traceback(verbose)
        _leave(f"{error}; {GO_ON}", INTERRUPTED)
    except (ValueError, OSError) as error:
        _traceback(verbose)
        _leave(str(error), BAD_USAGE)
    except (MemoryError, RecursionError) as error:
        _traceback(verbose)
        _leave(f"{type(error).__name__}: a file of the input or the dataset asks too much", 2)


def say(text: str, *, err: bool = False) -> None:
    """Prints text for a person: control characters in names are shown, not obeyed."""
    typer.echo(printable(text, keep="\n"), err=err)


def seconds_of(text: str, *, flag: str) -> float:
    """ "90s", "15m", "12h", "30d" as seconds.

    Raises:
        ValueError: It is something else; names the flag.
    """
    try:
        return duration_s(text)
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from None


def guarded(job: Callable[[], Any]) -> NoReturn:
    """Runs a job in a child process, whose end this one puts into an exit code of the table.

    Ray ends the process that drives it, with a code and a stack dump of its own, when its node
    dies; the kernel ends one that takes too much memory. Neither can be caught from within.
    """
    if not hasattr(os, "fork"):
        job()
        sys.exit(OK)
    parent, (ended, tell) = os.getpid(), os.pipe()
    handed_on = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # One that comes before this process can hand it on waits: else it would end the parent alone.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, handed_on)
    child = os.fork()
    if child == 0:
        os.close(ended)
        os.setpgid(0, 0)  # Ctrl-C reaches this one through its parent, once
        _die_with(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _work(job, tell)
    os.close(tell)
    for number in handed_on:
        signal.signal(number, lambda number, _frame: _forward(child, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _, status = os.waitpid(child, 0)
    with os.fdopen(ended, "rb") as pipe:
        told = pipe.read()
    code = os.waitstatus_to_exitcode(status)
    if told:
        _end(int(told))
    if code == INTERRUPTED:  # before it could tell; it has said so
        _end(INTERRUPTED)
    how = f"was killed by signal {-code}" if code < 0 else f"was ended by Ray with code {code}"
    hint = " (often: out of memory)" if code == -signal.SIGKILL else ""
    say(f"the run's process {how}{hint}; {GO_ON}", err=True)
    _end(INTERRUPTED)


def _work(job: Callable[[], Any], tell: int) -> NoReturn:
    """The child: tells its exit code before anything else can end it."""
    code = OK
    try:
        job()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else OK if end.code is None else FAILED
        if code not in (OK, FAILED, BAD_USAGE, INTERRUPTED):  # a signal's number, of Ray's handler
            say(f"interrupted; {GO_ON}", err=True)
            code = INTERRUPTED
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException:
        os.write(tell, str(FAILED).encode())
        raise
    os.write(tell, str(code).encode())
    _end(code)


def _end(code: int) -> NoReturn:
    """As the interpreter ends, but taking no module apart: with torch that takes a second.

    In that second Python has given signals back to the system, and Ctrl-C would kill a process
    that had done all it was asked for.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads any more
            stream.flush()
    os._exit(code)


def _forward(child: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, number)


def _die_with(parent: int) -> None:
    """A run that is killed with -9 must not go on as an orphan."""
    if sys.platform == "linux":
        with suppress(OSError):
            ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(INTERRUPTED)


class _OneLine(logging.Formatter):
    """Log lines without control characters and without credentials; tracebacks stay as they are."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        return printable(without_secrets(super().formatMessage(record)))


def long_options(app: typer.Typer) -> list[str]:
    """The long options of a job's program, sorted."""
    program = typer.main.get_command(app)
    names = [name for item in program.params for name in (*item.opts, *item.secondary_opts)]
    return sorted({name for name in names if name.startswith("--")} | {"--help"})


def _leave(message: str, code: int) -> NoReturn:
    message = without_secrets(printable(message))
    say(f"error: {message}" if code != INTERRUPTED else message, err=True)
    raise typer.Exit(code) from None


def _traceback(verbose: bool) -> None:
    if verbose:
        logging.getLogger(__name__).debug("", exc_info=True)


def _interrupt() -> Callable[[int, Any], None]:
    signals = 0

    def handle(_signal: int, _frame: Any) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            os.write(2, b"interrupted twice, left at once; the same command goes on\n")
            os._exit(INTERRUPTED)
        raise KeyboardInterrupt

    return handle
