"""Options that are parameters of a query of the API, parsed under the same rules."""

from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec
import typer

from pulse.http.errors import BadRequest
from pulse.http.parameters import parse_query

Parameters = TypeVar("Parameters", bound=msgspec.Struct)
Query = TypeVar("Query")


def query_of(
    given: Mapping[str, object],
    options: Mapping[str, str],
    parameters: type[Parameters],
    build: Callable[[Parameters], Query],
) -> Query:
    """The query that the API builds from these parameters; those that are None are left out.

    `options` names the option of each parameter that is not named like it.

    Raises:
        typer.BadParameter: a parameter breaks a rule. The message names its option.
    """
    present = {name: str(value) for name, value in given.items() if value is not None}
    try:
        return build(parse_query(urlencode(present, quote_via=quote).encode(), parameters))
    except BadRequest as error:
        field, message = str(error.details.get("field")), str(error)
        option = options.get(field, f"--{field.replace('_', '-')}")
        if field not in given:
            raise typer.BadParameter(message) from None
        raise typer.BadParameter(message.removeprefix(f"{field} "), param_hint=option) from None
