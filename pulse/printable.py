"""Text of unknown origin, made safe to print: no control character reaches a terminal or a log."""

import re
from typing import Final

_CONTROLS: Final = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Beyond those that JSON escapes itself; some end a line or change the direction of the text."""


def printable(text: str) -> str:
    r"""The text on one line; each character that is not printable becomes an escape as in Python.

    So `"a\x1b[31m\n"` is shown as `a\x1b[31m\n`. Characters that change the direction of the text
    or have no width are escaped too.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def printable_lines(text: str) -> str:
    """The same of each line of a text whose line breaks are Pulse's own."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(line: str) -> str:
    """A line of JSON with the control characters escaped that JSON allows in strings."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
