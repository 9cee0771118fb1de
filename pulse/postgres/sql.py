"""SQL lies in `.sql` files beside the module that owns the table."""

from importlib.resources import files
from typing import LiteralString


def load_sql(package: str, name: str) -> LiteralString:
    """The text of `sql/<name>.sql` in that package: a part of the program, never input."""
    return files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
