"""Runs the console commands of the README, line by line, and compares what they print.

They run in a new clone of the last commit, with an empty home directory, in bash. Only the port
differs, and pip's cache is used. `make run` is kept running for the commands after it. `make test`
is what CI runs, so only its recipe is checked.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.release.environments import CheckFailed, run, wait_for
from tests.support.processes import ROOT, free_port

_BLOCK: Final = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_QUANTITY: Final = re.compile(r'"quantity":\d+')
_START_SECONDS: Final = 300
_COMMAND_SECONDS: Final = 30
_PORT: Final = "8000"


class Command(NamedTuple):
    """A command as it is written after `$`, and the output below it."""

    text: str
    output: str

    @property
    def program(self) -> str:
        """The command without its comment."""
        return self.text.partition("  #")[0].strip()

    def fits(self, printed: str) -> bool:
        """Whether this output is as documented: `…` is any text.

        Times and quantities of slices are not compared, because schedules are random.
        """
        if not self.output:
            return True
        parts = _without_random_values(self.output).split("…")
        pattern = ".*".join(re.escape(part.strip()) for part in parts)
        return re.fullmatch(pattern, _without_random_values(printed), re.DOTALL) is not None


def _without_random_values(text: str) -> str:
    return _QUANTITY.sub('"quantity":<any>', _TIME.sub("<time>", text.strip()))


def commands(text: str) -> list[Command]:
    """The commands of all console blocks of a page."""
    return [one for block in _BLOCK.findall(text) for one in _commands_of(block)]


def _commands_of(block: str) -> Iterator[Command]:
    text: list[str] = []
    output: list[str] = []
    for line in block.splitlines():
        if text and not output and text[-1].endswith("\\"):
            text.append(line)
        elif line.startswith("$ "):
            if text:
                yield Command("\n".join(text), "\n".join(output))
            text, output = [line.removeprefix("$ ")], []
        else:
            output.append(line)
    if text:
        yield Command("\n".join(text), "\n".join(output))


def check(directory: Path) -> None:
    """Run the README in this empty directory.

    Raises:
        CheckFailed: a command fails, or prints something else.
    """
    clone, home, port = directory / "pulse", directory / "home", str(free_port())
    home.mkdir()
    run("git", "clone", "--quiet", ROOT, clone)
    environment = {
        **{name: value for name, value in os.environ.items() if _is_kept(name)},
        "HOME": str(home),
        "PIP_CACHE_DIR": run(sys.executable, "-m", "pip", "cache", "dir").strip(),
        "PULSE_PORT": port,
    }
    page = (clone / "README.md").read_text(encoding="utf-8").replace(f":{_PORT}", f":{port}")
    with (directory / "make-run.log").open("w+") as log:
        server: subprocess.Popen[bytes] | None = None
        try:
            for command in commands(page):
                print(f"  $ {command.text}")
                if command.program == "make run":
                    server = _start(command, clone, environment, log.fileno())
                    _wait_for(f"listens on http://127.0.0.1:{port}", directory, server)
                elif command.program == "make test":
                    run("make", "--dry-run", "test", cwd=clone, env=environment)
                else:
                    _compare(command, clone, environment)
        finally:
            code = _stop(server)
    # make ends by the signal after Pulse has stopped.
    if code not in {0, -signal.SIGINT} or list(clone.glob(".pulse/postgres/*/postmaster.pid")):
        raise CheckFailed(f"make run exited with {code} after Ctrl-C, or Postgres still runs")


def _is_kept(name: str) -> bool:
    return name == "PATH" or name.startswith("PIP_") or name.endswith(("_proxy", "_PROXY"))


def _start(
    command: Command, clone: Path, environment: Mapping[str, str], output: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["bash", "-c", f"exec {command.program}"],
        cwd=clone,
        env=environment,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _stop(server: subprocess.Popen[bytes] | None) -> int:
    """The exit code of `make run` after Ctrl-C, which a terminal sends to make and Pulse."""
    if server is None:
        return 0
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGINT)
    return server.wait(_COMMAND_SECONDS)


def _wait_for(text: str, directory: Path, server: subprocess.Popen[bytes]) -> None:
    log = directory / "make-run.log"

    def printed() -> str:
        return log.read_text(encoding="utf-8", errors="replace")

    wait_for(
        lambda: text in printed() or server.poll() is not None,
        lambda: f"make run did not start Pulse:\n{printed()}",
        _START_SECONDS,
    )
    if server.poll() is not None:
        raise CheckFailed(f"make run ended:\n{printed()}")


def _compare(command: Command, clone: Path, environment: Mapping[str, str]) -> None:
    """Run the command until it prints what is documented: orders are split in the background."""
    seen = ""

    def fits() -> bool:
        nonlocal seen
        ended = subprocess.run(
            ["bash", "-c", command.text],
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        seen = (
            f"{command.text}\nexited with {ended.returncode} and printed\n{ended.stdout}"
            f"{ended.stderr}\ninstead of\n{command.output}"
        )
        if ended.returncode:
            raise CheckFailed(seen)
        return command.fits(ended.stdout)

    wait_for(fits, lambda: seen, _COMMAND_SECONDS)
