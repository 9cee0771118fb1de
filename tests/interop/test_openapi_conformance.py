"""Schemathesis tests a real server against each OpenAPI document."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, PulseProcess
from tests.support.tokens import Signer

HOME = ROOT / "tests" / "support" / "schemathesis"
MAX_SECONDS = 240
MIN_CASES = {"pulse": 300, "gapi": 150}

pytestmark = pytest.mark.timeout(300)  # 2,000 requests, each checked against the document


def checked(served: PulseProcess, component: str, home: Path, *headers: str) -> str:
    """The output of schemathesis for a component; its files go to `home`."""
    url = f"http://127.0.0.1:{served.port}/{component}"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--no-color"),
            *("--config-file", str(HOME / "schemathesis.toml")),
            *("run", f"{url}/openapi.json", "--url", url, *headers),
        ],
        cwd=home,
        env={
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.support.schemathesis.hooks",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        timeout=MAX_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-12_000:] + run.stderr[-2_000:]
    return run.stdout


@pytest.mark.parametrize("component", ["pulse", "gapi"])
def test_a_component_answers_as_its_document_says(
    served: PulseProcess, signer: Signer, component: str, tmp_path: Path
) -> None:
    headers = ("-H", f"Authorization: Bearer {signer.token()}") if component == "gapi" else ()
    said = checked(served, component, tmp_path, *headers)
    cases = re.search(r"(\d+) generated", said)
    assert cases is not None
    assert int(cases[1]) >= MIN_CASES[component], said
    assert "http.server_error" not in served.logged
