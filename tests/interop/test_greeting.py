"""The shell commands that `pulse up` prints."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import ROOT, greeted_commands, pulse, until


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_commands_of_the_greeting_work(tmp_path: Path, module_database_url: str) -> None:
    settings = {"database_url": module_database_url, "data_dir": tmp_path / "data"}
    with pulse(tmp_path, forked=False, **settings) as up:
        until(lambda: "listens" in up.output, "it greets")
        post, get, through_gateway = greeted_commands(up.output)
        answers = [
            subprocess.run(  # noqa: S602 - the test runs the printed line
                command, shell=True, capture_output=True, check=True, timeout=20
            ).stdout
            for command in (post, post)
        ]
        assert answers[0] == answers[1]
        order_id = json.loads(answers[0])["order_id"]
        up.until_first_released(order_id)
        shown = subprocess.run(  # noqa: S602 - same
            get, shell=True, capture_output=True, check=True, timeout=20
        ).stdout
        assert json.loads(shown) == up.order(order_id)
        assert len(json.loads(shown)["slices"]) == 5
        outside = subprocess.run(  # noqa: S602 - same
            through_gateway, shell=True, capture_output=True, check=True, timeout=20, cwd=ROOT
        ).stdout
        assert json.loads(outside)["order_unique_key"] == json.loads(answers[0])["order_unique_key"]
        assert json.loads(outside)["order_id"] != order_id
