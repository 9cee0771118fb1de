"""msgspec constraints and validation errors as plain text: what a field expects, what is wrong."""

import re
from typing import Final, NamedTuple

import msgspec
from msgspec import inspect

_AT_PATH: Final = re.compile(r"(.*) - at `\$\.([a-z_.]*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_WRONG_TYPE: Final = re.compile(r"Expected `[\w |]+`, got `(\w+)`")
_TYPES: Final = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number with a fraction or exponent",
    "str": "a string",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_PROBLEMS: Final = (
    (re.compile(r"Expected `str` of length >="), "is too short"),
    (re.compile(r"Expected `str` of length <="), "is too long"),
    (re.compile(r"Expected `str` matching"), "has the wrong format"),
    (re.compile(r"Expected `int` [<>]=|.* out of range"), "is out of range"),
    (re.compile(r"Invalid RFC3339"), "is not a valid time"),
    (re.compile(r"Expected `datetime` with"), "has no offset from UTC"),
    (re.compile(r""), "is not allowed"),
)

Struct = type[msgspec.Struct]


class FieldFault(NamedTuple):
    """What is wrong with a field; `field` is None if the fault is in the object as a whole.

    `in_value` is False for a missing or an unknown field.
    """

    field: str | None
    problem: str
    expected: str
    in_value: bool = True


def field_fault_of(error: msgspec.ValidationError, struct: Struct) -> FieldFault:
    """The fault behind a validation error of this struct."""
    at_path = _AT_PATH.fullmatch(str(error))
    text, path = (at_path[1], at_path[2]) if at_path else (str(error), "")
    below = f"{path}." if path else ""
    if missing := _MISSING.fullmatch(text):
        return FieldFault(below + missing[1], "is missing", "this required field", False)
    if unknown := _UNKNOWN.fullmatch(text):
        names = ", ".join(_struct_at(path, struct).__struct_fields__)
        return FieldFault(below + unknown[1], "is unknown", f"only {names}", False)
    if wrong_type := _WRONG_TYPE.match(text):
        return FieldFault(path or None, f"is {_TYPES[wrong_type[1]]}", expected_of(path, struct))
    problem = next(problem for message, problem in _PROBLEMS if message.match(text))
    return FieldFault(path or None, problem, expected_of(path, struct))


def expected_of(path: str, struct: Struct) -> str:
    """What the constraint of the field at this dotted path expects."""
    outer, _, name = path.rpartition(".")
    fields = {field.name: field.type for field in msgspec.structs.fields(_struct_at(outer, struct))}
    return _constraint_text(inspect.type_info(fields[name])) if name else "a JSON object"


def _struct_at(path: str, struct: Struct) -> Struct:
    """The innermost struct on this path. The name of an unknown field may itself contain dots."""
    for name in path.split("."):
        inner = {field.name: field.type for field in msgspec.structs.fields(struct)}.get(name)
        struct = inner if isinstance(inner, type(msgspec.Struct)) else struct
    return struct


def _constraint_text(constraint: inspect.Type) -> str:  # noqa: PLR0911 - one for each kind
    """Strings, times and ids have their text in the `description` of their annotation."""
    match constraint:
        case inspect.IntType(ge=least, le=None):
            return f"a whole number of at least {least:,}"
        case inspect.IntType(ge=least, le=most):
            return f"a whole number from {least:,} to {most:,}"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            return " or ".join(map(str, values))
        case inspect.StructType(fields=fields):
            required = ", ".join(field.name for field in fields if field.required)
            optional = ", ".join(field.name for field in fields if not field.required)
            return f"an object with {required} and optionally {optional}"
        case inspect.UnionType(types=(some, inspect.NoneType())):
            return _constraint_text(some)
        case inspect.Metadata(
            type=inspect.StrType() | inspect.DateTimeType() | inspect.UUIDType(),
            extra_json_schema={"description": described},
        ):
            return str(described)
        case inspect.Metadata(type=bare):
            return _constraint_text(bare)
        case inspect.StrType(max_length=int(most)):
            return f"a string of at most {most:,} characters"
        case _:
            raise TypeError(f"no text for the constraint {constraint}")
