"""The domain is pure: importing it loads only the standard library, msgspec and pulse.errors."""

import json
import subprocess
import sys
from pathlib import Path

import pulse

ROOT = Path(pulse.__file__).parent.parent
LOADED = """
import json, sys
import msgspec
before = set(sys.modules)
import pulse.domain
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def modules_loaded_by_the_domain() -> list[str]:
    """What a fresh interpreter loads with the domain, beyond msgspec and what msgspec loads."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded: list[str] = json.loads(done.stdout)
    return loaded


def test_importing_the_domain_loads_only_the_standard_library_msgspec_and_pulse() -> None:
    loaded = modules_loaded_by_the_domain()
    assert "pulse.domain.orders" in loaded
    allowed = {*sys.stdlib_module_names, "pulse"}
    assert [name for name in loaded if name.partition(".")[0] not in allowed] == []


def test_importing_the_domain_loads_nothing_else_of_pulse_but_its_errors() -> None:
    own = [name for name in modules_loaded_by_the_domain() if name.startswith("pulse.")]
    others = [n for n in own if n != "pulse.errors" and not n.startswith("pulse.domain")]
    assert others == []
