"""Makes untrusted text safe to print: no control character reaches a terminal or a log."""

import re
from typing import Final

_CONTROLS: Final = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What JSON allows unescaped: DEL, C1 controls, line separators, changes of text direction."""


def printable(text: str) -> str:
    r"""The text on one line, with each character that is not printable escaped as in Python.

    So `"a\x1b[31m\n"` is shown as `a\x1b[31m\n`. Zero-width spaces and characters that change the
    direction of the text are escaped too; combining marks are not.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def printable_lines(text: str) -> str:
    """`printable` for each line of a text whose line breaks come from Pulse."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(line: str) -> str:
    """A line of JSON, with the control characters escaped that JSON allows unescaped."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
