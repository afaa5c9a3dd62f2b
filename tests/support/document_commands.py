"""The commands that the documents show, split as a shell does."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise, takewhile
from pathlib import Path

from source_tree import ROOT

from maskmill.command import COMMANDS

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blocks(path: Path, language: str) -> list[str]:
    """Fenced blocks of one language."""
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(start: str, *, after: str = " ") -> list[list[str]]:
    """Every command of the documents that begins with `start`, split as a shell does.

    Args:
        start: First words of the command.
        after: Regular expression of what may stand before it in its line, where anything does.
    """
    found = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        inline = re.findall(rf"`({re.escape(start)}[^`]*)`", text)
        for line in [*"".join(blocks(path, "bash")).replace("\\\n", " ").splitlines(), *inline]:
            code = re.sub(r"(^|\s)#.*", "", line)
            for hit in re.finditer(rf"(?:^|{after}){re.escape(start)}", code):
                words = shlex.split(code[hit.end() - len(start) :])
                found.append(list(takewhile(lambda word: word != "&&", words)))
    return found


JOB_COMMANDS = [
    c for c in commands("python -m jobs.") if "<" not in c[2] and c[2] != "jobs.COMMAND"
]
# `maskmill` is also the name of an image and of a secret: the command begins what it commands.
TOOL_COMMANDS = [c for c in commands("maskmill ", after="(?:&&|--) ") if c[1] != "COMMAND"]
SHOWN = JOB_COMMANDS + [c for c in TOOL_COMMANDS if not c[1].startswith("-")]


def job_of(command: list[str]) -> str:
    """The module of a command, in either spelling."""
    return COMMANDS[command[1]][0] if command[0] == "maskmill" else command[2]


def values(command: list[str], flag: str) -> list[str]:
    """What stands behind each `flag`."""
    return [value for word, value in pairwise(command) if word == flag]
