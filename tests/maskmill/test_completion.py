"""Completion: commands first, then a job's own options; scripts that a shell can read."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from maskmill.command import COMMANDS, SHELLS, main
from maskmill.completion import candidates, install, script

MODULES = {name: module for name, (module, _) in COMMANDS.items()}


def test_the_first_word_is_a_command() -> None:
    assert candidates([], MODULES) == list(COMMANDS)
    assert candidates([""], MODULES) == [*COMMANDS, "version"]
    assert candidates(["pre"], MODULES) == ["preview"]


def test_later_words_are_options_of_that_command() -> None:
    assert "--input-format" in candidates(["label", "--inp"], MODULES)
    assert all(word.startswith("--inp") for word in candidates(["label", "--inp"], MODULES))
    assert candidates(["label", "pho"], MODULES) == []  # a file name: the shell's own completion
    assert candidates(["nothing", "--"], MODULES) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_call_the_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--show-completion", shell])
    assert capsys.readouterr().out.strip() == script(shell).strip()
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script(shell), text=True, check=True)


def test_bash_completes(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "maskmill"
    fake.write_text('#!/bin/sh\n[ "$1" = --complete ] && [ "$2" = la ] && echo label\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    code = script("bash") + (
        '\nCOMP_WORDS=(maskmill la); COMP_CWORD=1; _maskmill; echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "label"


def test_installing_twice_changes_the_profile_once(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".zshrc").write_text("alias a=b")
    first, again = install("zsh"), install("zsh")
    assert first == again
    lines = (tmp_path / ".zshrc").read_text().splitlines()
    assert lines[0] == "alias a=b"
    assert len(lines) == 2
