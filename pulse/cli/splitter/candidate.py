"""Somebody's own splitter, found by the name they give it."""

import importlib
import sys
from pathlib import Path
from typing import Any

import typer

from pulse.domain import Splitter


def load_candidate(name: str) -> Splitter:
    """The function at MODULE:FUNCTION, looked for in the working directory first.

    Raises:
        BadParameter: there is none; it says which part of the name is wrong.
    """
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise _wrong(f"{name!r} has another form than MODULE:FUNCTION, as in my_splits:split")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise _wrong(f"no module {error.name} in {here} or installed") from None
    except (Exception, SystemExit) as error:
        raise _wrong(f"importing {module_name} fails: {type(error).__name__}: {error}") from error
    function: Any = getattr(module, function_name, None)
    if not callable(function):
        raise _wrong(f"{module_name} has no function {function_name}")
    splitter: Splitter = function
    return splitter


def _wrong(message: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint="MODULE:FUNCTION")
