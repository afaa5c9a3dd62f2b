"""Shell completion of `maskmill`: commands by name, then a job's own options.

The shell calls `maskmill --complete WORD…` with the words typed so far, the last one unfinished.
"""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

_SCRIPTS = {
    "bash": """_maskmill() {
  local words=("${COMP_WORDS[@]:1:COMP_CWORD}")
  local IFS=$'\\n'
  COMPREPLY=($(maskmill --complete "${words[@]}" 2>/dev/null))
  [ ${#COMPREPLY[@]} -eq 0 ] && COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o filenames -F _maskmill maskmill
""",
    "zsh": """#compdef maskmill
_maskmill() {
  local -a found
  found=("${(@f)$(maskmill --complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "$found[1]" ]]; then compadd -- $found; else _files; fi
}
compdef _maskmill maskmill
""",
    "fish": """function __maskmill
  maskmill --complete (commandline -opc)[2..] (commandline -ct)
end
complete -c maskmill -a '(__maskmill)'
""",
}

_PLACES = {
    "bash": ("~/.local/share/bash-completion/completions/maskmill", ""),
    "zsh": ("~/.local/share/maskmill/completion.zsh", "~/.zshrc"),
    "fish": ("~/.config/fish/completions/maskmill.fish", ""),
}
"""Shell → where its script goes, and the file of the user's that must name it."""


def candidates(words: Sequence[str], modules: Mapping[str, str]) -> list[str]:
    """What may stand where the last word is; empty where a file name is wanted.

    Args:
        words: What was typed after the program's name.
        modules: Command → the module of its job.
    """
    if not words:
        return list(modules)
    *before, last = words
    if not before:
        return [name for name in (*modules, "version") if name.startswith(last)]
    if before[0] not in modules or not last.startswith("-"):
        return []
    return [option for option in _options(modules[before[0]]) if option.startswith(last)]


def script(shell: str) -> str:
    """The completion script of a shell."""
    return _SCRIPTS[shell].rstrip("\n")


def install(shell: str) -> str:
    """Writes the script where the shell finds it; says where, and what to do next."""
    place, profile = _PLACES[shell]
    path = Path(place).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_SCRIPTS[shell], encoding="utf-8")
    if profile:
        user = Path(profile).expanduser()
        line = f"source {shlex.quote(str(path))}"
        text = user.read_text(encoding="utf-8") if user.exists() else ""
        if line not in text:
            start = "\n" if text and not text.endswith("\n") else ""
            user.write_text(f"{text}{start}{line}\n", encoding="utf-8")
    return f"wrote {path}; a new {shell} completes maskmill"


def _options(module: str) -> list[str]:
    """The long options of a job's program."""
    from jobs.console import long_options

    return long_options(importlib.import_module(module).app)
