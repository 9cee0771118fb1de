"""Completion of commands and options in the shells themselves."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.processes import ROOT

BASH: Final = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_pulse_completion pulse
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH: Final = """
autoload -U compinit
compinit -D
_arguments() { print -rl -- "$@" }
source "$1"
shift
words=("$@")
CURRENT=$#
_pulse_completion
"""


def environment(home: Path, **variables: str) -> dict[str, str]:
    """A home of the test's own, and `pulse` on the PATH."""
    path = f"{Path(sys.executable).parent}:{os.defpath}"
    return {"HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT), **variables}


def write_source(program: str, home: Path) -> None:
    """Write the completion script of this shell to the home."""
    shown = subprocess.run(
        ["pulse"],
        env=environment(home, _PULSE_COMPLETE=f"source_{program}"),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (home / f"pulse.{program}").write_text(shown.stdout, encoding="utf-8")


def shell(program: str, script: str, home: Path, *words: str) -> str:
    """What a shell completes after the completion script was sourced."""
    source = home / f"pulse.{program}"
    ended = subprocess.run(
        [program, "-c", script, program, source, *words],
        env=environment(home),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ended.stderr == ""
    return ended.stdout


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    write_source("bash", tmp_path)
    assert shell("bash", BASH, tmp_path, "pulse", "or").split() == ["orders"]
    assert shell("bash", BASH, tmp_path, "pulse", "orders", "").split() == ["failed", "list"]
    options = shell("bash", BASH, tmp_path, "pulse", "orders", "list", "--cr").split()
    assert options == ["--created-from", "--created-before"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh on this machine")
def test_zsh_completes_commands_and_options_with_their_help(tmp_path: Path) -> None:
    write_source("zsh", tmp_path)
    commands = shell("zsh", ZSH, tmp_path, "pulse", "doc")
    assert '"doctor":"Check whether Pulse can run here' in commands
    options = shell("zsh", ZSH, tmp_path, "pulse", "up", "--p")
    assert '"--port":"Port to listen on; overrides PULSE_PORT (8000)."' in options


def test_installing_appends_to_the_shells_start_file(tmp_path: Path) -> None:
    bash = ["bash", "--norc", "-c", "pulse --install-completion; exit $?"]
    ended = subprocess.run(
        bash, env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert "bash completion installed in" in ended.stdout
    assert "pulse.sh" in (tmp_path / ".bashrc").read_text(encoding="utf-8")
