"""HAProxy and Patroni accept their configuration files in deploy/."""

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.cluster.cluster import (
    HAPROXY_CONFIGURATION,
    PATRONI_CONFIGURATION,
    PATRONI_ENVIRONMENT,
    read_environment,
)
from tests.support.haproxy import HAPROXY
from tests.support.processes import ROOT

PATRONI = PATRONI_ENVIRONMENT / "bin" / "patroni"
ETCD = shutil.which("etcd")
HOST = read_environment(ROOT / "deploy" / "patroni" / "patroni.env.example")
ETCD_HOST = read_environment(ROOT / "deploy" / "patroni" / "etcd.env")

needs_haproxy = pytest.mark.skipif(
    HAPROXY is None and "CI" not in os.environ, reason="no HAProxy on this machine"
)
needs_patroni = pytest.mark.skipif(
    not PATRONI.exists() and "CI" not in os.environ, reason="no Patroni: `make cluster` installs it"
)


def checked_by_haproxy(
    file: Path, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(HAPROXY), "-c", "-f", file],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_haproxy
@pytest.mark.parametrize("variables", [{}, {"PG1": "198.18.0.1"}], ids=["as shipped", "set"])
def test_haproxy_accepts_its_file_without_a_warning(variables: dict[str, str]) -> None:
    checked = checked_by_haproxy(HAPROXY_CONFIGURATION, variables)
    assert (checked.returncode, checked.stdout.strip()) == (0, "Configuration file is valid")
    assert "WARNING" not in checked.stderr


@needs_haproxy
def test_haproxy_refuses_the_file_with_a_wrong_word(tmp_path: Path) -> None:
    broken = tmp_path / "haproxy.cfg"
    broken.write_text(HAPROXY_CONFIGURATION.read_text().replace("on-marked-down", "on-marked-dwon"))
    assert checked_by_haproxy(broken, {}).returncode != 0


def validated_by_patroni(file: Path, home: Path) -> str:
    """What Patroni finds wrong, with the environment of a host, on addresses of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{probe.getsockname()[1]}"
    variables = {
        **HOST,
        "PATRONI_ETCD3_HOSTS": closed,
        "PATRONI_POSTGRESQL_DATA_DIR": str(home / "data"),
        "PATRONI_POSTGRESQL_PGPASS": str(home / "pgpass"),
    }
    return subprocess.run(
        [PATRONI, "--validate-config", "--ignore-listen-port", file],
        env={"PATH": os.environ["PATH"], **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    ).stdout


@needs_patroni
def test_patroni_finds_nothing_wrong_in_its_file_except_that_etcd_does_not_run(
    tmp_path: Path,
) -> None:
    checked = validated_by_patroni(PATRONI_CONFIGURATION, tmp_path)
    found = [line for line in checked.splitlines() if line.strip()]
    assert [line for line in found if not line.startswith("etcd3.")] == []


@needs_patroni
def test_patroni_refuses_a_lease_that_is_too_short(tmp_path: Path) -> None:
    broken = tmp_path / "patroni.yml"
    broken.write_text(PATRONI_CONFIGURATION.read_text().replace("ttl: 20", "ttl: 5"))
    assert "bootstrap.dcs.ttl" in validated_by_patroni(broken, tmp_path)


def test_the_lease_outlasts_the_demotion_of_a_primary_that_is_cut_off() -> None:
    dcs = yaml.safe_load(PATRONI_CONFIGURATION.read_text())["bootstrap"]["dcs"]
    assert dcs["ttl"] >= dcs["loop_wait"] + 2 * dcs["retry_timeout"]


def test_commits_wait_for_a_replica_even_if_none_is_left() -> None:
    dcs = yaml.safe_load(PATRONI_CONFIGURATION.read_text())["bootstrap"]["dcs"]
    assert (dcs["synchronous_mode"], dcs["synchronous_mode_strict"]) == ("quorum", True)
    assert dcs["primary_start_timeout"] == 0


def test_the_environments_name_no_unknown_host() -> None:
    cluster = dict(each.split("=", 1) for each in ETCD_HOST["ETCD_INITIAL_CLUSTER"].split(","))
    assert ETCD_HOST["ETCD_INITIAL_ADVERTISE_PEER_URLS"] == cluster[ETCD_HOST["ETCD_NAME"]]
    clients = {peer.removeprefix("http://").replace(":2380", ":2379") for peer in cluster.values()}
    assert set(HOST["PATRONI_ETCD3_HOSTS"].split(",")) == clients
