"""Commands escape control characters of arguments, files, settings and the log."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pulse.testing import comparing
from tests.support.cli import run_pulse, write
from tests.support.events import order_created, slices_scheduled, splitting_failed, stored
from tests.support.processes import free_port

HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\x7f\u202eevil"
CONTROLS = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) != "\n"}
BIDI = set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069")


def output_of(*arguments: str, conninfo: str | None = None, **settings: object) -> str:
    """What this command line writes to both of its outputs."""
    ended = run_pulse(*arguments, conninfo=conninfo, **settings)
    return ended.out + ended.err


def assert_safe(said: str) -> None:
    assert not set(said) & (CONTROLS | BIDI), ascii(said)
    assert not [line for line in said.splitlines() if line.startswith(("\x9b", "evil"))]


ARGUMENTS = [
    (HOSTILE,),
    ("--" + HOSTILE,),
    ("up", "--host", HOSTILE),
    ("up", "--port", HOSTILE),
    ("gateway", "--host", HOSTILE),
    ("token", "--subject", HOSTILE),
    ("token", "--subject", "x", "--data-dir", HOSTILE),
    ("load", HOSTILE),
    ("load", HOSTILE, "--url", HOSTILE),
    ("load", "/dev/null", "--url", "http://" + HOSTILE),
    ("load", "/dev/null", "--token", HOSTILE),
    ("replay", HOSTILE),
    ("orders", HOSTILE),
    ("orders", "failed", "--limit", HOSTILE),
    ("projections", "retry", HOSTILE),
    ("verify", HOSTILE),
    ("splitter", "compare", HOSTILE),
    ("splitter", "compare", HOSTILE + ":split"),
    ("splitter", "compare", "json:" + HOSTILE),
    ("splitter", "show", "--total", HOSTILE),
    ("splitter", "show", "--seed", HOSTILE),
    ("splitter", "show", "--total", "100", "--splits", "5", "--duration", "60", "--svg", HOSTILE),
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda a: ascii(" ".join(a))[:50])
def test_control_characters_of_an_argument_are_escaped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...], postgres: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = output_of(*arguments, conninfo=postgres, port=free_port())
    assert_safe(said)
    assert said


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        *((name, "owned") for name in ("port", "data_dir", "log_level", "jwt_issuer")),
        ("api_base_url", "PULSE_API_BASE_URL=***"),  # it may have a password
    ],
)
def test_control_characters_of_a_setting_are_escaped(setting: str, shown: str) -> None:
    said = output_of("token", "--subject", "alice", **{setting: HOSTILE})
    assert_safe(said)
    assert shown in said


def test_stored_control_characters_are_escaped(conninfo: str) -> None:
    created = [
        order_created(f"{number}{HOSTILE}", placed_by=HOSTILE, instrument=f"NSE:{HOSTILE}")
        for number in range(3)
    ]
    failed = splitting_failed(created[1], HOSTILE)
    write(conninfo, *stored([*created, slices_scheduled(created[0]), failed]))
    commands = [
        ("projections", "status"),
        ("projections", "retry", "--all"),
        ("orders", "failed"),
        ("orders", "failed", "--json"),
        ("orders", "failed", "--reason", HOSTILE),
        ("status",),
        ("status", "--json"),
        ("verify",),
        ("verify", "--json"),
        ("rebuild",),
        ("rebuild", "--unverified"),
        *(("replay", str(one.originator_id)) for one in created),
        *(("replay", str(one.originator_id), "--json") for one in created),
    ]
    for command in commands:
        assert_safe(output_of(*command, conninfo=conninfo))


def test_control_characters_of_a_candidate_splitter_are_escaped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = f"""
def raising(terms):
    raise LookupError({HOSTILE!r})
def printing(terms):
    print({HOSTILE!r})
    return []
"""
    monkeypatch.setattr(comparing, "LAW_SEEDS", comparing.LAW_SEEDS[:50])  # no law is tested here
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hostile_candidate.py").write_text(source)
    (tmp_path / "hostile_broken.py").write_text(f"raise LookupError({HOSTILE!r})")
    for name, *options in (
        ("hostile_candidate:raising", "--json"),
        ("hostile_candidate:printing",),
        ("hostile_broken:split",),
    ):
        said = output_of("splitter", "compare", name, "--orders", "3", *options)
        assert_safe(said)
        assert "owned" in said


class HostileApi(BaseHTTPRequestHandler):
    """A server that answers with control characters; it is not Pulse."""

    def do_GET(self) -> None:
        self._answer(200 if self.path.endswith("/health/ready") else 404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(400)

    def _answer(self, status: int) -> None:
        error = {"error": {"code": HOSTILE, "message": HOSTILE, "details": {"field": HOSTILE}}}
        body = json.dumps({"status": "ready"} if status == 200 else error).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_control_characters_of_a_file_and_of_a_servers_answers_are_escaped(tmp_path: Path) -> None:
    file = tmp_path / f"evil\x1b[2J{HOSTILE[-4:]}.ndjson"
    good = {
        "order_unique_key": HOSTILE,
        "instrument": HOSTILE,
        "side": HOSTILE,
        "total_quantity": HOSTILE,
    }
    file.write_bytes(json.dumps(good).encode() + b"\n\x1b[2J not JSON \x9b\n")
    server = HTTPServer(("127.0.0.1", 0), HostileApi)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        said = output_of("load", str(file), "--url", f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert_safe(said)
    assert "refused" in said
