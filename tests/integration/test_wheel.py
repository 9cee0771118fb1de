"""The built wheel has every file of the package, and py.typed."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from tests.support.processes import ROOT


def test_the_wheel_carries_every_file_of_the_package_and_py_typed(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("pulse/")}
    assert "pulse/py.typed" in names
    files = (path for path in (ROOT / "pulse").rglob("*") if path.is_file())
    assert names == {"pulse/_commit.txt"} | {
        str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts
    }
