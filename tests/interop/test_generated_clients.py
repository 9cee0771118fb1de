"""Clients are generated from both documents, type-checked in strict mode, and run against Pulse.

`make clients` installs the generators: openapi-python-client and openapi-typescript.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.domain import INTERNAL_SCOPE, order_id_for
from tests.support.log import write
from tests.support.processes import ROOT, PulseProcess
from tests.support.tokens import SERVICE_TOKEN, Signer

PROGRAMS = ROOT / "tests" / "clients"
TOOLS = Path(sys.prefix) / "clients"
PYTHON = TOOLS / "python" / "bin"
NODE = TOOLS / "node_modules"
MAX_SECONDS = 120

pytestmark = pytest.mark.skipif(
    not (TOOLS / ".installed").exists() and "CI" not in os.environ,
    reason="no generators of clients: `make clients` installs them",
)


@pytest.fixture(scope="module")
def served(served: PulseProcess, module_database_url: str) -> PulseProcess:
    """Pulse without service tokens, with an event in its log that another program wrote."""
    write(module_database_url, StoredEvent(uuid4(), 1, "elsewhere:Thing", b'{"a":1,"b":[2]}'))
    return served


@pytest.fixture(scope="module")
def documents(served: PulseProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("documents")
    for component in ("pulse", "gapi"):
        url = f"http://127.0.0.1:{served.port}/{component}/openapi.json"
        (home / f"{component}.json").write_bytes(httpx.get(url, trust_env=False).content)
    return home


@pytest.fixture(scope="module")
def python_home(documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated packages, and the programs that use them."""
    home = tmp_path_factory.mktemp("python")
    for component in ("pulse", "gapi"):
        run(
            home,
            *(PYTHON / "openapi-python-client", "generate", "--fail-on-warning"),
            *("--path", documents / f"{component}.json"),
            *("--meta", "none", "--output-path", f"{component}_client"),
        )
    for program in PROGRAMS.glob("*.py"):
        (home / program.name).write_bytes(program.read_bytes())
    return home


@pytest.fixture(scope="module")
def typescript_home(documents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated types, and the programs that use them, compiled in strict mode."""
    home = tmp_path_factory.mktemp("typescript")
    (home / "node_modules").symlink_to(NODE)
    for component in ("pulse", "gapi"):
        document = documents / f"{component}.json"
        run(home, NODE / ".bin" / "openapi-typescript", document, "-o", f"{component}.ts")
    for program in (*PROGRAMS.glob("*.ts"), *PROGRAMS.glob("*.json")):
        (home / program.name).write_bytes(program.read_bytes())
    run(home, NODE / ".bin" / "tsc", "--project", ".")
    return home


@pytest.fixture(params=["python", "typescript"])
def program(request: pytest.FixtureRequest) -> "Program":
    home: Path = request.getfixturevalue(f"{request.param}_home")
    return Program(home, request.param)


class Program:
    """A program on generated clients, in one of two languages."""

    def __init__(self, home: Path, language: str) -> None:
        self._home = home
        self._language = language

    def run(self, name: str, *arguments: str) -> Any:
        """Its output, decoded."""
        command = {
            "python": (PYTHON / "python", f"{name}.py"),
            "typescript": ("node", f"built/{name}.js"),
        }[self._language]
        return json.loads(run(self._home, *command, *arguments))


def run(home: Path, *command: object) -> str:
    """The output of a command, which must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=home,
        env={**os.environ, "PATH": f"{PYTHON}:{os.environ['PATH']}"},  # the generator calls ruff
        capture_output=True,
        text=True,
        timeout=MAX_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-8_000:]
    return done.stdout


def fields(body: Any) -> Any:
    return {name: fields(value) for name, value in body.items()} if isinstance(body, dict) else None


def fields_in_readme() -> Any:
    """The fields of the first order that README posts."""
    body = re.search(r"-d '(\{.*\})'", (ROOT / "README.md").read_text())
    assert body is not None
    return fields(json.loads(body[1]))


def test_the_python_clients_and_their_programs_pass_mypy_in_strict_mode(python_home: Path) -> None:
    command = (PYTHON / "mypy", "--strict", "--cache-dir", os.devnull, ".")
    assert "Success" in run(python_home, *command)


@pytest.mark.parametrize("token", [None, SERVICE_TOKEN], ids=["without a token", "with a token"])
def test_a_service_places_an_order_and_reads_it_in_every_way(
    program: Program, served: PulseProcess, guarded: PulseProcess, token: str | None
) -> None:
    if token is None:
        found = program.run("orders", served.url)
    else:
        found = program.run("orders", guarded.url, token)

    assert fields(found["request"]) == fields_in_readme()
    assert (sum(found["preview"]), len(found["preview"])) == (100, 5)
    assert found["preview_again"] == found["preview"]
    assert found["window_seconds"] == 3600
    order_id = order_id_for(INTERNAL_SCOPE, found["request"]["order_unique_key"])
    assert UUID(found["order_id"]) == order_id
    assert (found["status"], len(found["slices"])) == ("COMPLETED", 5)
    assert sum(found["slices"]) == 100
    assert found["health"] == ["ok", "ready"]
    assert found["listed"] == 1
    assert found["listed_slices"] == found["slices"]
    released, *rest = found["slices"]
    assert found["states"] == ["RELEASED"] + ["CANCELLED"] * 4
    assert found["quantities"] == {
        "remaining": 0,
        "released": released,
        "cancelled": sum(rest),
        "expired": 0,
    }
    assert found["history"] == [
        "BUY 100 as 5 slices",
        "100 scheduled",
        f"{released} released",
        f"{sum(rest)} cancelled: the fund is closed",
    ]
    assert "elsewhere:Thing with 2 fields" in found["log"]
    assert set(found["history"]) <= set(found["log"])
    assert found["batch"] == [found["order_id"], "DUPLICATE_ORDER_UNIQUE_KEY"]
    assert found["errors"] == [
        "ORDER_NOT_FOUND",
        "DUPLICATE_ORDER_UNIQUE_KEY",
        "INVALID_REQUEST",
        "ORDER_NOT_FOUND",
        "INVALID_REQUEST",
        "INVALID_REQUEST",
    ]
    assert found["past"] == ["PENDING", True]
    assert found["queue"] is True


def test_a_caller_of_the_gateway_places_an_order_and_reads_it(
    program: Program, served: PulseProcess, signer: Signer
) -> None:
    url = f"http://127.0.0.1:{served.port}/gapi"
    found = program.run("gateway", url, signer.token())

    assert fields(found["request"]) == fields_in_readme()
    assert (found["status"], len(found["slices"])) == ("COMPLETED", 5)
    assert sum(found["slices"]) == 100
    assert found["health"] == ["ok", "Hello from GAPI"]
    assert found["remaining"] == 0
    assert found["listed"] == [found["order_id"]]
    assert found["created"] == 100
    created, split, *_ = found["history"]
    assert (created, split) == ("OrderCreated", "SlicesScheduled")
    assert found["errors"] == ["ORDER_NOT_FOUND", "UNAUTHORIZED", "ORDER_NOT_FOUND"]
