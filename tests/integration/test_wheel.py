"""The built wheel has every file of the package, and py.typed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from tests.support.processes import ROOT


def files_of_the_wheel(source: Path, tmp_path: Path) -> set[str]:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=source,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},  # as in the image's build
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if name.startswith("pulse/")}


def test_the_wheel_carries_every_file_of_the_package_and_py_typed(tmp_path: Path) -> None:
    names = files_of_the_wheel(ROOT, tmp_path)
    assert "pulse/py.typed" in names
    files = (path for path in (ROOT / "pulse").rglob("*") if path.is_file())
    assert names == {"pulse/_commit.txt"} | {
        str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts
    }


def test_the_image_s_build_context_has_what_the_wheel_and_the_containerfile_need(
    tmp_path: Path,
) -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    context = tmp_path / "context"
    for name in set(re.findall(r"^!(.*)$", ignored, re.MULTILINE)) - {".git"}:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            bytecode = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, context / name, ignore=bytecode)
        else:
            shutil.copy(ROOT / name, context / name)
    git = ("git", "-C", context, "-c", "user.name=t", "-c", "user.email=t@example.com")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "context"]):
        subprocess.run([*git, *arguments], check=True)
    names = files_of_the_wheel(context, tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        commit = archive.read("pulse/_commit.txt").decode().strip()
    assert re.fullmatch(r"g\w{12}", commit), "bytecode is ignored, so the commit is not dirty"
    assert names == files_of_the_wheel(ROOT, tmp_path)
    containerfile = (ROOT / "deploy/container/Containerfile").read_text(encoding="utf-8")
    for sources in re.findall(r"^COPY (?!--)(.*) \S+$", containerfile, re.MULTILINE):
        assert all((context / source).exists() for source in sources.split())
