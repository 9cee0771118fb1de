"""Linters of containers, compose files, Kubernetes and systemd accept the files below deploy/.

`make release-check` installs the linters, except for systemd-analyze and kubectl.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.release.environments import TOOLS
from tests.support.deployment_files import (
    CONTAINER,
    DEPLOY,
    KUBERNETES,
    SYSTEMD,
    manifests,
)
from tests.support.processes import ROOT

MAX_EXPOSURE: Final = 1.3
UNITS: Final = sorted(file.name for file in SYSTEMD.glob("*.service"))
TARGETS: Final = ("basic", "multi-user", "network-online", "shutdown", "sysinit")
YAML: Final = [CONTAINER / "compose.yaml", *sorted(KUBERNETES.glob("*.yaml"))]

needs_tools = pytest.mark.skipif(
    not (TOOLS.parent / ".installed").exists() and "CI" not in os.environ,
    reason="no linters: `make release-check` installs them",
)
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and "CI" not in os.environ,
    reason="no systemd-analyze on this machine",
)


def lint(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, cwd=ROOT
    )


def accepted(*command: str | Path) -> str:
    ended = lint(*command)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@needs_tools
def test_hadolint_accepts_the_containerfile() -> None:
    assert accepted(TOOLS / "hadolint", CONTAINER / "Containerfile") == ""


@needs_tools
def test_hadolint_refuses_a_containerfile_that_ends_as_root(tmp_path: Path) -> None:
    text = (CONTAINER / "Containerfile").read_text(encoding="utf-8")
    broken = tmp_path / "Containerfile"
    broken.write_text(text.replace("USER 10001:10001", "USER root"), encoding="utf-8")
    assert "DL3002" in lint(TOOLS / "hadolint", broken).stdout


@needs_tools
def test_the_compose_file_fits_the_compose_specification(tmp_path: Path) -> None:
    broken = tmp_path / "compose.yaml"
    text = (CONTAINER / "compose.yaml").read_text(encoding="utf-8")
    broken.write_text(text.replace("read_only:", "readonly:"), encoding="utf-8")
    check = (TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec")
    ended = lint(*check, CONTAINER / "compose.yaml", broken)
    faults = ended.stdout.splitlines()[1:]
    assert ended.returncode == 1
    assert faults
    assert all(line.startswith(f"  {broken}::") for line in faults), ended.stdout + ended.stderr


@needs_tools
def test_yamllint_accepts_the_yaml_files() -> None:
    assert accepted(TOOLS / "yamllint", "-s", "-c", DEPLOY / ".yamllint.yaml", *YAML) == ""


@needs_tools
def test_the_manifests_fit_the_schemas_of_kubernetes(tmp_path: Path) -> None:
    broken = tmp_path / "api.yaml"
    text = (KUBERNETES / "api.yaml").read_text(encoding="utf-8")
    broken.write_text(text.replace("readinessProbe:", "readyProbe:"), encoding="utf-8")
    files = [file for file in YAML if file.parent == KUBERNETES and file.stem != "kustomization"]
    ended = lint(TOOLS / "kubernetes-validate", "--strict", "--quiet", *files, broken)
    faults = (ended.stdout + ended.stderr).splitlines()
    assert ended.returncode != 0
    assert [line.split()[1] for line in faults] == [str(broken)], faults


@pytest.mark.skipif(
    shutil.which("kubectl") is None and "CI" not in os.environ,
    reason="no kubectl on this machine",
)
def test_kustomize_builds_every_manifest_with_the_image_of_the_registry() -> None:
    parsed = list(yaml.safe_load_all(accepted("kubectl", "kustomize", KUBERNETES)))
    assert sorted(named(one) for one in parsed) == sorted(named(one) for one in manifests())
    pods = [one["spec"]["template"] for one in parsed if one["kind"] in {"Deployment", "Job"}]
    images = [pod["spec"]["containers"][0]["image"] for pod in pods]
    assert [image.partition(":")[0] for image in images] == ["registry.example/pulse"] * len(pods)


def named(manifest: dict[str, Any]) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory with the units, as docs/how-to/deploy.md installs them."""
    units, targets = tmp_path / "etc/systemd/system", tmp_path / "usr/lib/systemd/system"
    programs = (tmp_path / "opt/pulse/bin/pulse", tmp_path / "bin/kill")
    for directory in (units, targets, *(program.parent for program in programs)):
        directory.mkdir(parents=True)
    for name in UNITS:
        shutil.copy(SYSTEMD / name, units)
    shutil.copytree(SYSTEMD / "pulse-.service.d", units / "pulse-.service.d")
    for target in TARGETS:
        (targets / f"{target}.target").write_text(f"[Unit]\nDescription={target}\n")
    for program in programs:
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    return tmp_path


def verify(root: Path) -> subprocess.CompletedProcess[str]:
    files = (f"/etc/systemd/system/{name}" for name in UNITS)
    return lint("systemd-analyze", "verify", "--man=no", f"--root={root}", *files)


@needs_systemd
def test_systemd_accepts_the_units(root: Path) -> None:
    ended = verify(root)
    assert (ended.returncode, ended.stdout + ended.stderr) == (0, "")


@needs_systemd
def test_systemd_refuses_a_unit_whose_program_is_missing(root: Path) -> None:
    (root / "opt/pulse/bin/pulse").unlink()
    assert "/opt/pulse/bin/pulse is not executable" in verify(root).stderr


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_the_exposure_of_a_unit_is_low(root: Path, name: str) -> None:
    printed = accepted(
        *("systemd-analyze", "security", "--offline=true", "--no-pager"), f"--root={root}", name
    )
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", printed)
    assert found is not None, printed
    assert float(found[1]) <= MAX_EXPOSURE
