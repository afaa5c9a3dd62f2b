"""The command `maskmill`: the same programs as `python -m jobs.<job>`, from any folder.

A job is imported when it is called: `maskmill --help` answers before a heavy library could load.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

COMMANDS: dict[str, tuple[str, str]] = {
    "label": ("jobs.label", "Label a folder of images: Parquet, COCO, PNG, report."),
    "export": ("jobs.export", "Write a dataset in another format."),
    "validate": ("jobs.validate", "Check a dataset against its own rules."),
    "evaluate": ("jobs.evaluate", "Compare labels with ground truth: AP, PQ, mean IoU."),
    "measure": ("jobs.measure", "Measure shapes, sizes and intensities; compare datasets."),
    "preview": ("jobs.preview", "Show what a chain of preprocessing does to a picture."),
    "report": ("jobs.report", "Write the HTML report again."),
    "review": ("jobs.review", "Pick labels worth a look; bring corrections back."),
    "diff": ("jobs.diff", "What changed between two versions or datasets."),
    "versions": ("jobs.versions", "List a dataset's versions; go back to one."),
    "promote": ("jobs.promote", "Publish what a gate held back."),
    "train": ("jobs.train", "Train a network on a dataset."),
    "models": ("jobs.models", "List the models by name, or show one."),
    "config": ("jobs.config", "Print every key of a job: type, default, range, meaning."),
    "doctor": ("jobs.doctor", "Say what this machine has and what is missing."),
}
"""Command → its module and one sentence."""

SHELLS = ("bash", "zsh", "fish")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; exit codes are the job's own, 2 for an unknown one."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    first = words[0] if words else "--help"
    if first in ("-h", "--help", "help"):
        print(usage(), end="")
    elif first in ("-V", "--version", "version"):
        print(f"maskmill {version_text()}")
    elif first in ("--install-completion", "--show-completion"):
        from .completion import install, script

        shell = words[1] if len(words) > 1 else _shell()
        if shell not in SHELLS:
            _refuse(f"no completion for {shell!r}; allowed: {', '.join(SHELLS)}")
        print(script(shell) if first == "--show-completion" else install(shell))
    elif first == "--complete":
        from .completion import candidates

        modules = {name: module for name, (module, _) in COMMANDS.items()}
        print("\n".join(candidates(words[1:], modules)))
    elif first in COMMANDS:
        run(first, words[1:])
    else:
        from schemas.suggest import nearest

        _refuse(f"no command {first!r}{nearest(first, COMMANDS)}; maskmill --help lists them")


def run(command: str, words: Sequence[str]) -> None:
    """Hands the words over to the job's own program."""
    try:
        module = importlib.import_module(COMMANDS[command][0])
    except ModuleNotFoundError as error:
        if error.name != COMMANDS[command][0]:
            raise
        _refuse(f"this installation has no {command}")
    module.app(args=list(words), prog_name=f"maskmill {command}")


def usage() -> str:
    """What `maskmill --help` prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = "\n".join(f"  {name:<{width}}{about}" for name, (_, about) in COMMANDS.items())
    return f"""Usage: maskmill COMMAND [OPTIONS]

Turns folders of images into segmentation datasets.

Commands:
{lines}
  {"version":<{width}}Print the version.

maskmill COMMAND --help shows a command's options and an example.
maskmill --install-completion [{"|".join(SHELLS)}] completes commands and options.
Each command is also python -m jobs.COMMAND.

Example: maskmill label --input photos/ --output out/ --model unet-nuclei
"""


def version_text() -> str:
    """The version, of the installed package or of the sources."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("maskmill")
    except PackageNotFoundError:  # run from its sources
        import tomllib
        from pathlib import Path

        text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
        return f"{tomllib.loads(text)['project']['version']} (sources)"


def _shell() -> str:
    import os
    from pathlib import PurePath

    return PurePath(os.environ.get("SHELL", "bash")).name


def _refuse(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
