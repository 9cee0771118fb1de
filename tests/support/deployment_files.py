"""The container, systemd and Kubernetes files below deploy/, parsed."""

import re
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.processes import ROOT

DEPLOY: Final = ROOT / "deploy"
CONTAINER: Final = DEPLOY / "container"
SYSTEMD: Final = DEPLOY / "systemd"
KUBERNETES: Final = DEPLOY / "kubernetes"
_VARIABLE: Final = re.compile(r"\$\{(\w+):\?\}")
_IMAGE_VARIABLE: Final = re.compile(r"^(?:ENV|   ) (?:[^ ]+ )?(\w+)=(\S+)", re.MULTILINE)


def compose(secrets: dict[str, str] | None = None) -> dict[str, Any]:
    """The compose file. With `secrets` its variables are replaced by them."""
    text = (CONTAINER / "compose.yaml").read_text(encoding="utf-8")
    if secrets is not None:
        text = _VARIABLE.sub(lambda found: secrets[found[1]], text)
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def secret_names() -> list[str]:
    """The variables that the compose file requires."""
    text = (CONTAINER / "compose.yaml").read_text(encoding="utf-8")
    return sorted(set(_VARIABLE.findall(text)))


def image_environment() -> dict[str, str]:
    """The PULSE_* variables that the image sets."""
    text = (CONTAINER / "Containerfile").read_text(encoding="utf-8")
    found = dict(_IMAGE_VARIABLE.findall(text.rpartition("\nFROM ")[2]))
    return {name: value for name, value in found.items() if name.startswith("PULSE_")}


def manifests() -> list[dict[str, Any]]:
    """Every object of the Kubernetes manifests."""
    files = [file for file in sorted(KUBERNETES.glob("*.yaml")) if file.stem != "kustomization"]
    return [one for file in files for one in _objects(file)]


def _objects(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text(encoding="utf-8")))


def pods() -> dict[str, dict[str, Any]]:
    """The pod templates of deployments and jobs, by component."""
    found = [one["spec"]["template"] for one in manifests() if one["kind"] in {"Deployment", "Job"}]
    return {pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod for pod in found}


def unit(file: Path) -> dict[str, list[str]]:
    """The directives of a systemd unit, each with its values in order."""
    directives: dict[str, list[str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        name, found, value = line.partition("=")
        if found and not line.startswith("#"):
            directives.setdefault(name, []).append(value)
    return directives
