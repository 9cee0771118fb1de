"""The container, systemd and Kubernetes files name settings and commands that exist, and agree."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from pulse.cli.app import program_for
from pulse.process.http_server import GRACE_SECONDS
from pulse.settings import every_setting
from tests.support.cli import Ended, run_pulse
from tests.support.deployment_files import (
    CONTAINER,
    DEPLOY,
    KUBERNETES,
    SYSTEMD,
    compose,
    image_environment,
    manifests,
    pods,
    secret_names,
    unit,
)
from tests.support.processes import ROOT

PAGES: Final = [ROOT / "docs" / "how-to" / "deploy.md"]
FILES: Final = [
    *(
        file
        for folder in (CONTAINER, SYSTEMD, KUBERNETES)
        for file in folder.rglob("*.*")
        if file.is_file()
    ),
    CONTAINER / "Containerfile",
    *PAGES,
]
VARIABLE: Final = re.compile(r"\bPULSE_[A-Z0-9_]+\b")
KNOWN: Final = {setting.variable for setting in every_setting()}
NAMED_AS_NO_SETTING: Final = {"PULSE_API_PORT"}  # a comment warns of it
SECRET: Final = {
    "PULSE_DATABASE_URL",
    "PULSE_GATEWAY_SERVICE_TOKEN",
    "PULSE_JWT_SECRET",
    "PULSE_SERVICE_TOKENS",
}
SERVING: Final = ("api", "gateway", "workers")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_setting_that_a_file_names_exists(file: Path) -> None:
    unknown = set(VARIABLE.findall(file.read_text(encoding="utf-8"))) - KNOWN - NAMED_AS_NO_SETTING
    assert {name for name in unknown if not name.endswith("_")} == set()


def commands() -> dict[str, list[str]]:
    """Every command line of `pulse` in the files, by where it is."""
    found = {f"compose {name}": service["command"] for name, service in services().items()}
    found |= {
        f"kubernetes {name}": pod["spec"]["containers"][0]["args"] for name, pod in pods().items()
    }
    for file in SYSTEMD.glob("*.service"):
        (start,) = unit(file)["ExecStart"]
        program, *arguments = start.split()
        assert program == "/opt/pulse/bin/pulse"
        found[file.name] = arguments
    return found


def services() -> dict[str, dict[str, list[str]]]:
    return {name: one for name, one in compose()["services"].items() if one["image"] == "pulse"}


@pytest.mark.parametrize("where", sorted(commands()))
def test_every_command_that_a_file_runs_exists(where: str) -> None:
    line = list(commands()[where])
    program = program_for(line)
    name, command, arguments = program.resolve_command(
        program.make_context("pulse", list(line)), line
    )
    assert command is not None
    command.make_context(name, arguments)  # parses the options, and runs nothing


def test_the_compose_file_needs_the_variables_of_the_example() -> None:
    example = (CONTAINER / "example.env").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^(\w+)=", example, re.MULTILINE)) == secret_names()


def test_every_pulse_service_of_the_compose_file_is_read_only_and_without_capabilities() -> None:
    for service in compose()["services"].values():
        if service["image"] == "pulse":
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
            assert "no-new-privileges:true" in service["security_opt"]


def test_the_image_listens_beyond_loopback_and_does_not_migrate() -> None:
    assert image_environment() == {
        "PULSE_DATA_DIR": "/var/lib/pulse",
        "PULSE_HOST": "0.0.0.0",  # noqa: S104 - in a container
        "PULSE_LOG_FORMAT": "json",
        "PULSE_MIGRATE": "false",
    }
    containerfile = (CONTAINER / "Containerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (.*)$", containerfile, re.MULTILINE)[-1] == "10001:10001"


@pytest.mark.parametrize("component", ["migrate", *SERVING])
def test_every_pod_meets_the_restricted_security_standard(component: str) -> None:
    spec = pods()[component]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("component", ["migrate", *SERVING])
def test_no_pod_gets_variables_of_services_that_look_like_settings(component: str) -> None:
    assert pods()[component]["spec"]["enableServiceLinks"] is False


@pytest.mark.parametrize("component", SERVING)
def test_probes_use_the_port_that_the_process_listens_on(component: str) -> None:
    (container,) = pods()[component]["spec"]["containers"]
    (port,) = container["ports"]
    monitoring = {one["name"]: one.get("value") for one in container["env"]}
    stated = monitoring.get("PULSE_MONITORING_PORT") or container["args"][-1]
    assert stated == str(port["containerPort"])
    for probe, path in (
        ("startupProbe", "/health"),
        ("livenessProbe", "/health"),
        ("readinessProbe", "/health" if component == "gateway" else "/health/ready"),
    ):
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}


@pytest.mark.parametrize("component", SERVING)
def test_a_pod_has_time_to_drain(component: str) -> None:
    spec = pods()[component]["spec"]
    hook = spec["containers"][0].get("lifecycle", {})
    sleep = int(hook["preStop"]["exec"]["command"][1]) if hook else 0
    assert (sleep > 0) == (component != "workers")
    assert spec["terminationGracePeriodSeconds"] >= sleep + 2 * GRACE_SECONDS


def test_the_unit_of_a_group_lets_its_file_set_the_number_of_processes() -> None:
    """An option of the command would override the file; the file overrides `Environment`."""
    found = unit(SYSTEMD / "pulse-up.service")
    assert found["Environment"] == ["PULSE_WORKER_PROCESSES=1"]
    assert found["ExecStart"] == ["/opt/pulse/bin/pulse up --port 8000"]


@pytest.mark.parametrize("name", ["api", "gateway", "up", "workers"])
def test_a_unit_has_time_to_drain(name: str) -> None:
    (stop,) = unit(SYSTEMD / f"pulse-{name}.service")["TimeoutStopSec"]
    assert int(stop) >= 2 * GRACE_SECONDS


@pytest.mark.parametrize("component", SERVING)
def test_a_deployment_has_a_disruption_budget_and_is_never_below_its_replicas(
    component: str,
) -> None:
    by_kind = {
        one["kind"]: one for one in manifests() if one["metadata"]["name"] == f"pulse-{component}"
    }
    deployment, budget = by_kind["Deployment"]["spec"], by_kind["PodDisruptionBudget"]["spec"]
    assert deployment["replicas"] >= 2
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert budget["selector"] == deployment["selector"]
    assert (
        deployment["selector"]["matchLabels"].items()
        <= pods()[component]["metadata"]["labels"].items()
    )


def test_secrets_come_by_reference() -> None:
    assert not [one for one in manifests() if one["kind"] == "Secret"]
    plain = [name for one in manifests() if one["kind"] == "ConfigMap" for name in one["data"]] + [
        variable["name"]
        for pod in pods().values()
        for variable in pod["spec"]["containers"][0].get("env", [])
        if "value" in variable
    ]
    assert not SECRET & set(plain)


def with_secrets(pod: dict[str, Any]) -> dict[str, str]:
    """The variables of a pod. Its secrets are what docs/how-to/deploy.md creates."""
    token = "t" * 32
    secrets = {
        ("pulse-database", "url"): "postgresql://pulse_app:p@db/pulse",
        ("pulse-database-owner", "url"): "postgresql://pulse_admin:p@db/pulse",
        ("pulse-services", "tokens"): f"gateway:{token},oms:{token}2,prometheus:{token}3",
        ("pulse-gateway", "token"): token,
        ("pulse-gateway", "tokens"): f"prometheus:{token}3",
    }
    (container,) = pod["spec"]["containers"]
    maps = {one["metadata"]["name"]: one for one in manifests() if one["kind"] == "ConfigMap"}
    variables: dict[str, str] = {}
    for source in container["envFrom"]:
        variables |= maps[source["configMapRef"]["name"]]["data"]
    for one in container["env"]:
        reference = one.get("valueFrom", {}).get("secretKeyRef", {})
        variables[one["name"]] = one.get("value") or secrets[reference["name"], reference["key"]]
    return {name.removeprefix("PULSE_").lower(): value for name, value in variables.items()}


@pytest.mark.parametrize("component", ["migrate", *SERVING])
def test_the_settings_of_every_pod_are_valid(component: str) -> None:
    ended = run_pulse("config", "--check", **with_secrets(pods()[component]))
    assert ended.exit_code == 0, ended.err


@pytest.mark.parametrize("name", ["gateway", "migrate", "pulse"])
def test_the_settings_of_every_unit_are_valid_but_for_the_tokens(name: str) -> None:
    text = (SYSTEMD / f"{name}.env").read_text(encoding="utf-8")
    assert run_of(text).exit_code == (0 if name == "migrate" else 2)
    used = re.sub("^#(?=PULSE_)", "", text, flags=re.MULTILINE)
    for number in range(text.count("REPLACE")):
        used = used.replace(":REPLACE", f":{number}{'t' * 32}", 1)
    used = used.replace("=REPLACE", f"={'t' * 32}")
    ended = run_of(used)
    assert ended.exit_code == 0, ended.err


def run_of(text: str) -> Ended:
    found = re.findall(r"^PULSE_(\w+)=(.*)$", text, re.MULTILINE)
    return run_pulse("config", "--check", **{name.lower(): value for name, value in found})


def test_every_manifest_is_applied() -> None:
    text = (KUBERNETES / "kustomization.yaml").read_text(encoding="utf-8")
    listed = set(yaml.safe_load(text)["resources"])
    assert listed == {file.name for file in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}


def test_only_the_migration_gets_the_url_of_the_owner() -> None:
    for name, pod in pods().items():
        references = [
            variable["valueFrom"]["secretKeyRef"]["name"]
            for variable in pod["spec"]["containers"][0]["env"]
            if "valueFrom" in variable
        ]
        assert ("pulse-database-owner" in references) == (name == "migrate")
    for name, service in compose()["services"].items():
        admin = "pulse_admin" in str(service.get("environment"))
        assert admin == (name == "migrate")


def test_the_page_names_the_folders_of_containers_systemd_and_kubernetes() -> None:
    page = PAGES[0].read_text(encoding="utf-8")
    for folder in (CONTAINER, SYSTEMD, KUBERNETES):
        assert f"deploy/{folder.relative_to(DEPLOY)}" in page
