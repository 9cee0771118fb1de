"""The OpenAPI documents match the code: fields, examples and refusals."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import jsonschema_rs
import msgspec
import pytest

from pulse.application.event_view import EventView, event_view
from pulse.application.orders import CancelRequest, OrderPreview
from pulse.domain import (
    EVENT_TYPES,
    INTERNAL_SCOPE,
    OrderRefused,
    OrderSpec,
    PreviewRequest,
    Quantities,
    Slice,
    SplitConfig,
    SplitConfigRequest,
    Window,
    order_id_for,
    preview,
)
from pulse.eventstore import MAX_SCANNED, RecordedEvent
from pulse.http.bodies import read_order, read_preview_request
from pulse.http.errors import answer_for
from pulse.http.responses import PlacedOrder
from pulse.projections.lists import ScheduledSlice
from pulse.projections.order_view import OrderView, SliceView
from tests.support import documents
from tests.support.commands import place_order
from tests.support.events import MAPPER, order_created, state_of_version_1, stored
from tests.support.processes import ROOT

DOCUMENTS = {"api": documents.API, "gateway": documents.GATEWAY}
EVENTS = (*(event_type.__name__ for event_type in EVENT_TYPES), "OtherEvent")
CREATED_V1: Final = state_of_version_1(order_created())
Operation = tuple[str, str, dict[str, Any]]


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            yield method.upper(), path, described


def contents(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body that is described, request or answer, with its place in the document."""
    for method, path, described in operations(document):
        bodies = {"request": described.get("requestBody"), **described["responses"]}
        for name, body in bodies.items():
            if body is not None:
                for content in body["content"].values():
                    yield f"{method} {path} {name}", content


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_the_document_is_openapi_3_1_and_has_no_absolute_url(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert b"://" not in msgspec.json.encode(document)


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_every_request_and_every_answer_has_examples_that_match_its_schema(
    document: dict[str, Any],
) -> None:
    for where, content in contents(document):
        schema = {**content["schema"], "components": document["components"]}
        validator = jsonschema_rs.Draft202012Validator(schema)
        assert content["examples"], where
        for name, example in content["examples"].items():
            faults = [str(error) for error in validator.iter_errors(example["value"])]
            assert not faults, (where, name, faults)


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_each_error_is_under_its_status_and_429_and_503_have_retry_after(
    document: dict[str, Any],
) -> None:
    codes: dict[str, set[str]] = {}
    for _, _, described in operations(document):
        for status, answer in described["responses"].items():
            assert "X-Trace-Id" in answer["headers"]
            assert ("Retry-After" in answer["headers"]) == (status in {"429", "503"})
            assert ("WWW-Authenticate" in answer["headers"]) == (status == "401")
            if status[0] in "45":
                for example in answer["content"]["application/json"]["examples"].values():
                    codes.setdefault(status, set()).add(example["value"]["error"]["code"])
    orders = {
        "INVALID_REQUEST",
        "INVALID_INSTRUMENT",
        "INVALID_QUANTITY",
        "INVALID_SPLIT_CONFIG",
    }
    assert orders <= codes.pop("400") <= {*orders, "POSITION_BEYOND_LOG"}
    assert codes == {
        "401": {"UNAUTHORIZED"},
        "403": {"FORBIDDEN"},
        "404": {"ORDER_NOT_FOUND"}
        | ({"HALT_NOT_FOUND", "NOT_FOUND"} if document is documents.API else set()),
        **({"406": {"NOT_ACCEPTABLE"}} if document is documents.API else {}),
        "408": {"REQUEST_TIMEOUT"},
        "409": {"DUPLICATE_ORDER_UNIQUE_KEY", "NOTHING_TO_CANCEL"},
        "413": {"PAYLOAD_TOO_LARGE"},
        "415": {"UNSUPPORTED_MEDIA_TYPE"},
        "422": {"MARKET_CLOSED"},
        "429": {"TOO_MANY_REQUESTS"},
        "500": {"INTERNAL_ERROR"},
        "503": {"UNAVAILABLE"},
    }


@pytest.mark.parametrize(
    ("name", "struct"),
    [
        ("OrderRequest", OrderSpec),
        ("OrderPreview", OrderPreview),
        ("Window", Window),
        ("PlacedOrder", PlacedOrder),
        ("Order", OrderView),
        ("SplitConfig", SplitConfig),
        ("Slice", Slice),
        ("OrderSlice", SliceView),
        ("Quantities", Quantities),
        ("ScheduledSlice", ScheduledSlice),
        *((name, EventView) for name in EVENTS),
    ],
)
def test_a_schema_has_the_fields_of_the_encoded_type(
    name: str, struct: type[msgspec.Struct]
) -> None:
    schema = DOCUMENTS["api"]["components"]["schemas"][name]
    assert tuple(schema["properties"]) == struct.__struct_fields__
    assert schema["required"] == [name for name in struct.__struct_fields__ if name != "as_of"]


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_every_operation_has_a_summary_and_a_description_that_says_more(
    document: dict[str, Any],
) -> None:
    for method, path, described in operations(document):
        summary, description = described["summary"], described.get("description", "")
        assert summary, (method, path)
        assert len(description) > len(summary), (method, path)


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_no_schema_is_named_as_one_of_its_properties(document: dict[str, Any]) -> None:
    """A generated class would have one variable for both."""
    for name, schema in document["components"]["schemas"].items():
        taken = {field.replace("_", "") for field in schema.get("properties", {})}
        assert name.lower() not in taken, name


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_no_property_has_a_default_and_those_that_the_code_requires_are_required(
    document: dict[str, Any],
) -> None:
    """openapi-typescript makes a property required that has a `default`."""
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        assert not [field for field in schema.get("properties", {}).values() if "default" in field]
    requests: dict[str, type[msgspec.Struct]] = {
        "CancelRequest": CancelRequest,
        "OrderRequest": OrderSpec,
        "PreviewRequest": PreviewRequest,
        "SplitConfigRequest": SplitConfigRequest,
    }
    for name, struct in requests.items():
        if name == "PreviewRequest" and document is documents.GATEWAY:
            continue
        required = [field.name for field in msgspec.structs.fields(struct) if field.required]
        assert schemas[name]["required"] == required


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_optional_security_is_optional_in_generated_clients(document: dict[str, Any]) -> None:
    """openapi-python-client takes any requirement of an operation for a mandatory one."""
    for method, path, described in operations(document):
        assert {} not in described.get("security", []), (method, path)
    of_orders = [d.get("security") for _, path, d in operations(document) if "orders" in path]
    if document is documents.API:
        assert document["security"] == [{}, {"serviceToken": []}]
        assert of_orders == [None] * len(of_orders)
    else:
        assert document["security"] == []
        write, read = ([{"token": [scope]}] for scope in ("orders:write", "orders:read"))
        assert of_orders == [read, write, read, write, read]


def test_events_are_a_union_tagged_by_their_type() -> None:
    schemas = DOCUMENTS["api"]["components"]["schemas"]
    union = schemas["Event"]
    assert [option["$ref"].rpartition("/")[2] for option in union["oneOf"]] == list(EVENTS)
    assert union["discriminator"]["propertyName"] == "type"
    assert (
        list(union["discriminator"]["mapping"]) == list(EVENTS[:-1]) == schemas["EventType"]["enum"]
    )
    for event_type in EVENT_TYPES:
        data = schemas[f"{event_type.__name__}Data"]["properties"]
        assert ("class_version" in data) == (event_type.class_version > 1)
        event = schemas[event_type.__name__]["properties"]
        assert event["type"]["const"] == event_type.__name__
        assert event["data"]["$ref"] == f"#/components/schemas/{event_type.__name__}Data"


@pytest.mark.parametrize(
    ("topic", "state", "expected"),
    [
        (None, None, "OrderCreated"),
        (None, CREATED_V1, "OrderCreated"),
        ("elsewhere:Thing", None, "OtherEvent"),
        ("elsewhere:Thing", b'{"timestamp":"yesterday"}', "OtherEvent"),
        ("pulse.domain:OrderAmended", None, "OtherEvent"),
        (None, b"\xff", "OtherEvent"),
        (None, b"{}", "OtherEvent"),
    ],
)
def test_every_event_matches_exactly_one_schema(
    topic: str | None, state: bytes | None, expected: str
) -> None:
    created = order_created()
    (event,) = stored([created])
    record = RecordedEvent(
        position=1,
        originator_id=created.originator_id,
        originator_version=1,
        topic=topic or event.topic,
        state=event.state if state is None else state,
        recorded_at=created.timestamp,
    )
    shown = msgspec.to_builtins(event_view(record, MAPPER))
    assert [name for name in EVENTS if _has_schema(shown, name)] == [expected]
    assert _has_schema(shown, "Event")


def _has_schema(value: Any, name: str) -> bool:
    document = DOCUMENTS["api"]
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    return jsonschema_rs.Draft202012Validator(schema).is_valid(value)


def test_the_document_and_the_page_explain_how_to_read_the_log_to_its_end() -> None:
    described = DOCUMENTS["api"]["paths"]["/internal/events"]["get"]["description"]
    page = (ROOT / "docs" / "how-to" / "follow-the-log.md").read_text()
    for text in (described, page):
        assert "empty page is not the end" in text.lower()
        assert f"{MAX_SCANNED:,} events" in text
        assert "as_of_position" in text


def test_the_example_answers_are_the_codes_answers_to_the_example_requests() -> None:
    paths = DOCUMENTS["api"]["paths"]

    def examples(path: str, method: str, *names: str) -> Any:
        found = paths[path][method]
        for name in names:
            found = found[name]
        return {n: e["value"] for n, e in found["content"]["application/json"]["examples"].items()}

    (batch,) = examples("/internal/orders/batch", "post", "requestBody").values()
    (results,) = examples("/internal/orders/batch", "post", "responses", "200").values()
    accepted, refused = results["results"]
    key = read_order(msgspec.json.encode(batch[0])).order_unique_key
    assert accepted["body"] == {
        "order_id": str(order_id_for(INTERNAL_SCOPE, key)),
        "order_unique_key": key,
    }
    with pytest.raises(OrderRefused) as caught:
        read_order(msgspec.json.encode(batch[1]))
    status, error = answer_for(caught.value)
    assert refused == {"status": status, "body": {"error": msgspec.to_builtins(error)}}
    for request in examples("/internal/orders", "post", "requestBody").values():
        read_order(msgspec.json.encode(request))
    asked, unseeded = examples("/internal/orders/preview", "post", "requestBody").values()
    (answer,) = examples("/internal/orders/preview", "post", "responses", "200").values()
    assert read_preview_request(msgspec.json.encode(unseeded)).split_seed is msgspec.UNSET
    seeded = read_preview_request(msgspec.json.encode(asked))
    at = datetime.fromisoformat(answer["window"]["starts_at"])
    command = msgspec.structs.replace(
        place_order(split_seed=int(asked["split_seed"], 16), at=at), spec=seeded.spec
    )
    made = OrderPreview.of(preview(command))
    assert msgspec.json.decode(msgspec.json.encode(made)) == answer
    read = examples("/internal/orders/{order_id}", "get", "responses", "200")
    assert {order["order_id"] for order in read.values()} == {accepted["body"]["order_id"]}
