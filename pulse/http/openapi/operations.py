"""The pieces an operation of a document is made of."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pulse.http.openapi.faults import Fault, fault_of, responses_of
from pulse.http.openapi.schemas import Schema, text
from pulse.http.parameters import Parameters

Examples = Mapping[str, Any]

_ID: Final = "1 to 128 visible ASCII characters; any other is replaced by one made here"
_TRACE_HEADERS: Final = {
    "X-Trace-Id": ("the trace this request belongs to", "t1772423100abcdef012345"),
    "X-Request-Id": ("this request", "r1772423100abcdef012345"),
    "X-Trace-Source": ("who began the trace", "OMS:rebalance"),
    "X-Request-Source": ("who sends this request", "OMS:worker-3"),
}
TRACE_PARAMETERS: Final[list[dict[str, Any]]] = [
    {
        "name": name,
        "in": "header",
        "description": f"{meaning}, such as `{example}`: {_ID}",
        "schema": text(),
    }
    for name, (meaning, example) in _TRACE_HEADERS.items()
]
ANSWERED_HEADERS: Final[dict[str, Any]] = {
    name: {"description": meaning, "required": True, "schema": text()}
    for name, (meaning, _) in _TRACE_HEADERS.items()
}


def operation(  # noqa: PLR0913 - an operation has that many parts
    operation_id: str,
    summary: str,
    *,
    tag: str,
    answers: Mapping[str, Any],
    description: str = "",
    parameters: Iterable[dict[str, Any]] = (),
    body: dict[str, Any] | None = None,
    faults: Iterable[Fault] = (),
) -> dict[str, Any]:
    """An operation; every answer also has the tracing headers.

    Every operation refuses query parameters other than its own.
    """
    parameters = tuple(parameters)
    own = tuple(parameter["name"] for parameter in parameters if parameter["in"] == "query")
    unknown = fault_of("an unknown parameter", lambda: Parameters(b"dry_run=true", own))
    responses = {**answers, **responses_of((*faults, unknown))}
    for response in responses.values():
        response["headers"] = {**ANSWERED_HEADERS, **response.get("headers", {})}
    return {
        "operationId": operation_id,
        "summary": summary,
        "tags": [tag],
        **({"description": description} if description else {}),
        "parameters": [*parameters, *TRACE_PARAMETERS],
        **({"requestBody": body} if body else {}),
        "responses": dict(sorted(responses.items())),
    }


def answer(description: str, schema: Schema, **examples: Any) -> dict[str, Any]:  # noqa: ANN401
    """An answer in JSON with an example or several."""
    return {"description": description, "content": _json(schema, examples)}


def json_body(schema: Schema, **examples: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """A request body in JSON with an example or several."""
    return {"required": True, "content": _json(schema, examples)}


def _json(schema: Schema, examples: Examples) -> dict[str, Any]:
    values = {name.replace("_", " "): {"value": value} for name, value in examples.items()}
    return {"application/json": {"schema": schema, "examples": values}}


def path_parameter(name: str, schema: Schema, example: str) -> dict[str, Any]:
    """A parameter within the path."""
    return {"name": name, "in": "path", "required": True, "schema": schema, "example": example}


def query_parameter(
    name: str,
    schema: Schema,
    example: str | int | None = None,
    description: str = "",
) -> dict[str, Any]:
    """An optional parameter of the query."""
    said: dict[str, Any] = {} if example is None else {"example": example}
    if description:
        said["description"] = description
    return {"name": name, "in": "query", "schema": schema, **said}


def link_to_order(operation_id: str) -> dict[str, Any]:
    """A link from an answer that names an order to the order."""
    parameters = {"order_id": "$response.body#/order_id"}
    return {"order": {"operationId": operation_id, "parameters": parameters}}
