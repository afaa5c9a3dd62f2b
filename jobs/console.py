"""What every job does at its edges: exit codes, one-line errors, log level. Not a job itself."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from pipeline.errors import ExecutionError

OK, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 3


@contextmanager
def exit_codes(*, verbose: bool = False) -> Iterator[None]:
    """Turns what a job raises into its exit code and one line on standard error.

    ValueError and OSError (bad usage, config, input or output): 2. ExecutionError, Ctrl-C and
    SIGTERM (stopped, but what is finished is kept): 3. `verbose` shows the traceback too.
    """
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s" if verbose else "%(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        _leave("interrupted; the same command goes on where it stopped", INTERRUPTED)
    except ExecutionError as error:
        _traceback(verbose)
        _leave(f"{error}; finished shards are kept, the same command goes on", INTERRUPTED)
    except (ValueError, OSError) as error:
        _traceback(verbose)
        _leave(str(error), BAD_USAGE)


def long_options(app: typer.Typer) -> list[str]:
    """The long options of a job's program, sorted."""
    program = typer.main.get_command(app)
    names = [name for item in program.params for name in (*item.opts, *item.secondary_opts)]
    return sorted({name for name in names if name.startswith("--")} | {"--help"})


def _leave(message: str, code: int) -> NoReturn:
    typer.echo(f"error: {message}" if code != INTERRUPTED else message, err=True)
    raise typer.Exit(code) from None


def _traceback(verbose: bool) -> None:
    if verbose:
        logging.getLogger(__name__).debug("", exc_info=True)


def _interrupt(_signal: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt
