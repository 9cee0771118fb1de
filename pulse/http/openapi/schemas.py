"""The components of a document: schemas of structs, named enumerations, the tagged union of events.

Client generators read them: tests/interop/test_generated_clients.py runs generated clients.
"""

from collections.abc import Iterable, Mapping, Sequence
from inspect import cleandoc
from typing import Any, Final, get_args

import msgspec

from pulse.application.event_view import EventType
from pulse.domain import (
    EVENT_TYPES,
    DomainEvent,
    HaltScope,
    OrderSpec,
    ReleasesHalted,
    ReleasesResumed,
    SessionPolicy,
    Side,
    SliceState,
    SplitConfig,
)
from pulse.projections.order_view import OrderQueueStatus

_NAMES: Final = {
    "OrderSpec": "OrderRequest",
    "OrderView": "Order",
    "SliceView": "OrderSlice",
    "EventView": "Event",
    "OwnOrder": "Order",
    "OwnOrders": "OrderPage",
    "OwnEvent": "Event",
    "OwnHistory": "History",
}
"""The names of schemas that differ from those of their structs."""

_REQUESTS: Final = (
    "OrderSpec",
    "SplitConfigRequest",
    "PreviewRequest",
    "CancelRequest",
    "HaltRequest",
)

_SESSION_POLICIES: Final = (
    "NONE: trading sessions are ignored. REJECT: the whole window must be inside one session. "
    "CLIP: the window ends with its session. ROLL: time outside sessions does not count."
)
_OPTIONAL: Final = frozenset({"as_of"})
"""Fields that only some answers have."""

_ENUMERATIONS: Final = {
    "Side": (Side, "Whether to buy or to sell."),
    "OrderQueueStatus": (
        OrderQueueStatus,
        "The state of splitting an order; COMPLETED, FAILED and CANCELLED are final.",
    ),
    "SessionPolicy": (
        SessionPolicy,
        _SESSION_POLICIES,
    ),
    "SliceState": (
        SliceState,
        "The state of a slice; all but SCHEDULED are final.",
    ),
    "EventType": (EventType, "The type of an event."),
    "HaltScope": (
        HaltScope,
        "What a halt stops: every release, one instrument, or the orders of one caller.",
    ),
}
"""Schemas that fields and parameters share, so that a generated client has one type for each."""

_ENUMERATION_OF: Final = {
    frozenset(get_args(values)): name for name, (values, _) in _ENUMERATIONS.items()
}

_TYPED_EVENTS: Final = tuple(event_type.__name__ for event_type in EVENT_TYPES)
_OTHER_EVENT: Final = "OtherEvent"
_HALT_EVENTS: Final = (ReleasesHalted, ReleasesResumed)
_ID: Final = {"type": "string", "format": "uuid"}
_NO_ID: Final = {
    "type": ["string", "null"],  # openapi-fetch would drop a field that is null alone
    "format": "uuid",
    "description": "null: the event belongs to no order",
}
_EVENT_VIEWS: Final = frozenset(name for name, shown in _NAMES.items() if shown == "Event")
_NOT_IN_DATA: Final = ("originator_id", "originator_version", "timestamp")
_INVISIBLE: Final = "\\s\\u00ad\\u061c\\u180e\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\ufeff"
_CONTROL: Final = "\\u0000-\\u001f\\u007f-\\u009f"
_NEW_KEY: Final = (
    f"^[^{_CONTROL}{_INVISIBLE}]([^{_CONTROL}]*[^{_CONTROL}{_INVISIBLE}])?(?![\\s\\S])"
)
"""Other invisible characters and Unicode NFC are not in the pattern, only in the description."""

Schema = dict[str, Any]
Schemas = dict[str, Schema]
EventFields = Mapping[str, Sequence[str]]


def ref(name: str | type[msgspec.Struct]) -> dict[str, str]:
    """A reference to the schema of a struct, or to one by its name."""
    return {"$ref": f"#/components/schemas/{name if isinstance(name, str) else name.__name__}"}


def schemas_of(
    structs: Iterable[type[msgspec.Struct]],
    texts: Mapping[str, Mapping[str, str]],
    event_fields: EventFields | None = None,
) -> Schemas:
    """The schemas of these structs and of all they are made of, by their names in the document.

    `texts` describes fields, by the name of the schema. `event_fields` names the fields of an
    event's data that are returned, by type; None: all are.
    """
    generated = _generated(structs)
    for name, schema in generated.items():
        if "properties" in schema and name not in _REQUESTS:
            _require_all(schema)
    for view in _EVENT_VIEWS & generated.keys():
        generated |= _events(view, generated[view], event_fields)
    constraints = _constraints_of(OrderSpec) | _constraints_of(SplitConfig)
    schemas = {_NAMES.get(name, name): schema for name, schema in sorted(generated.items())}
    for name, schema in schemas.items():
        schema["description"] = cleandoc(schema["description"])
        schema.pop("title", None)
        if "properties" in schema:
            schema["additionalProperties"] = False
            described_as = "Event" if name in (*_TYPED_EVENTS, _OTHER_EVENT) else name
            _describe(schema["properties"], constraints, texts.get(described_as, {}))
    for name in ("OrderRequest", "PreviewRequest"):
        if name in schemas:
            schemas[name]["properties"]["order_unique_key"]["pattern"] = _NEW_KEY
    return schemas


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its own names of schemas, patterns and enumerations."""
    done: dict[str, Any] = _rewritten(document)
    text = msgspec.json.encode(done)
    for name, (values, description) in _ENUMERATIONS.items():
        if msgspec.json.encode(ref(name)["$ref"]) in text:
            done["components"]["schemas"][name] = {
                "description": description,
                "type": "string",
                "enum": list(get_args(values)),
            }
    return done


def _generated(structs: Iterable[type[msgspec.Struct]]) -> Schemas:
    template = "#/components/schemas/{name}"
    return msgspec.json.schema_components(structs, ref_template=template)[1]


def _require_all(schema: Schema) -> None:
    """Require every field of an answer except the optional ones, even if it has a default."""
    schema["required"] = [name for name in schema["properties"] if name not in _OPTIONAL]
    for field in schema["properties"].values():
        field.pop("default", None)


def _events(name_of_view: str, view: Schema, event_fields: EventFields | None) -> Schemas:
    """`Event` as a union tagged by `type`: each type with its own data, and all other events.

    An event that this code cannot read has the type of its topic, and the stored state as data. So
    the other events are those that match none of the types, not those with another `type`.
    """
    types = {
        t.__name__: t for t in EVENT_TYPES if event_fields is None or t.__name__ in event_fields
    }
    schemas = _generated(types.values())
    for name, event_type in types.items():
        data = schemas.pop(name)
        for field in _NOT_IN_DATA:
            del data["properties"][field]
            data["required"].remove(field)
        _allow_older_versions(data, event_type)
        if event_fields is not None:
            _keep_only(data, event_fields[name])
        schemas[f"{name}Data"] = data | {"description": f"The data of an event `{name}`."}
        schemas[name] = _event(
            view,
            data["description"],
            type={"type": "string", "const": name},
            order_id=_NO_ID if event_type in _HALT_EVENTS else _ID,
            occurred_at={"type": "string"},
            data=ref(f"{name}Data"),
        )
    schemas[_OTHER_EVENT] = _event(
        view,
        "Any other event: of another program, of newer code, or one that cannot be read. `type` is "
        "any string, and `data` is what is stored. Skip the ones that you do not know.",
        type={"type": "string"},
        occurred_at={"type": ["string", "null"]},
        data={"type": "object"},
    ) | {"not": {"anyOf": [ref(name) for name in types]}}
    if event_fields is not None:
        for unused in ("RecordedBy", "Trace"):
            del schemas[unused]
    schemas[name_of_view] = {
        "description": view["description"],
        "oneOf": [ref(name) for name in (*types, _OTHER_EVENT)],
        "discriminator": {
            "propertyName": "type",
            "mapping": {name: ref(name)["$ref"] for name in types},
        },
    }
    return schemas


def _allow_older_versions(data: Schema, event_type: type[DomainEvent]) -> None:
    """Make the fields optional that older stored forms lack, and add `class_version`.

    Data is shown as it is stored, and the stored form has `class_version` if it is above 1.
    """
    if event_type.class_version == 1:
        return
    of_first = dict.fromkeys(data["properties"])
    for newer in range(event_type.class_version, 1, -1):
        getattr(event_type, f"downcast_v{newer}_v{newer - 1}")(of_first)
    data["required"] = [name for name in data["required"] if name in of_first]
    data["properties"]["class_version"] = {"type": "integer", "minimum": 2}


def _keep_only(data: Schema, fields: Sequence[str]) -> None:
    """Remove the other fields. `cancelled_by` may be withheld."""
    properties = data["properties"]
    data["properties"] = {name: properties[name] for name in fields if name in properties}
    data["required"] = [name for name in data["required"] if name in fields]
    if "cancelled_by" in data["properties"]:
        data["properties"]["cancelled_by"] = {"anyOf": [{"type": "string"}, {"type": "null"}]}


def _event(view: Schema, description: str, **fields: Schema) -> Schema:
    """The schema of an event that has these fields in place of the view's."""
    properties = {name: dict(schema) for name, schema in view["properties"].items()}
    return {**view, "description": description, "properties": properties | fields}


def _constraints_of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    properties: dict[str, Any] = _generated([struct])[struct.__name__]["properties"]
    return {name: schema for name, schema in properties.items() if "$ref" not in schema}


def _describe(
    properties: dict[str, Any], constraints: Mapping[str, Any], descriptions: Mapping[str, str]
) -> None:
    """Describe these fields. One with the name of a request's field gets the same constraint."""
    for name, schema in properties.items():
        if "anyOf" not in schema:  # it is not nullable
            schema.update(constraints.get(name, {}))
        if name in descriptions:
            schema["description"] = descriptions[name]
        for time in schema.get("anyOf", [schema]) if name.endswith("_at") else ():
            if time["type"] == "string":
                time["format"] = "date-time"
        default = schema.pop("default", None)  # with it openapi-typescript would require the field
        if default is not None:
            default_text = f"default: {msgspec.json.encode(default).decode()}"
            schema["description"] = "; ".join(
                filter(None, [schema.get("description"), default_text])
            )


def _rewritten(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, list):
        return [_rewritten(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {name: _rewritten(inner) for name, inner in _keywords(value).items()}


def _keywords(schema: Schema) -> Schema:
    """One object of the document, in the form that JSON Schema and client generators expect."""
    match schema:
        case {"$ref": str(reference)}:
            path, _, name = reference.rpartition("/")
            return schema | {"$ref": f"{path}/{_NAMES.get(name, name)}"}
        case {"enum": [str(), *_]}:
            return _enumeration(schema)
        case {"type": "object"} if not {"properties", "additionalProperties"} & schema.keys():
            return schema | {"additionalProperties": True}
        case {"prefixItems": [first, *others]} if all(other == first for other in others):
            bare = {keyword: value for keyword, value in schema.items() if keyword != "prefixItems"}
            return bare | {"items": first}  # client generators do not support tuples
        case {"pattern": str(pattern)}:
            return schema | {"pattern": pattern.replace("(?![\\s\\S])", "$")}
        case _:
            return schema


def _enumeration(schema: Schema) -> Schema:
    others = {
        keyword: value for keyword, value in schema.items() if keyword not in {"enum", "type"}
    }
    values: list[str] = schema["enum"]
    if len(values) == 1:
        return others | {"type": "string", "const": values[0]}
    named = _ENUMERATION_OF.get(frozenset(values))
    return others | ({"type": "string", "enum": values} if named is None else ref(named))
