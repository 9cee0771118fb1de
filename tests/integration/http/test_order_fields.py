"""Every rule of an order request's fields, over HTTP: code, field and what was expected."""

import json

import httpx
import pytest

from tests.support.orders import body, fault, new_key, post, split_config

HUGE = "9" * 5000
UNREADABLE = {HUGE, f"-{HUGE}", f"{HUGE}.0", "1e999", "-1e999"}
"""Numbers that the decoder refuses, before the rules apply."""
WRONG_NUMBERS = [
    *sorted(UNREADABLE),
    '"100"',
    "100.0",
    "1e2",
    "1E2",
    "1e-999",
    "true",
    "false",
    "null",
    "[100]",
    '{"a":1}',
    '""',
    "9" * 25,
    "-9223372036854775809",
    "18446744073709551616",
    "100.5",
]
NOT_STRINGS = ["null", "true", "1", "1.5", "[]", "{}", '["BUY"]', HUGE, "1e999"]
NOT_OBJECTS = ["null", "true", "5", "0.5", "[]", '"x"', "[5,60]", HUGE, "1e999"]


def wrong(field: str, code: str, texts: list[str]) -> list[tuple[str, str, str]]:
    return [(field, text, code) for text in texts]


WRONG_FIELDS = [
    *wrong("order_unique_key", "INVALID_REQUEST", NOT_STRINGS),
    *wrong(
        "order_unique_key",
        "INVALID_REQUEST",
        [
            '""',
            json.dumps("k" * 256),
            json.dumps("\N{GRINNING FACE}" * 256),
            json.dumps("k" * 10_000),
            *(json.dumps(f"a{control}b") for control in "\x00\n\t\x1f\x7f\x80\x9f"),
        ],
    ),
    *wrong("instrument", "INVALID_INSTRUMENT", NOT_STRINGS),
    *wrong(
        "instrument",
        "INVALID_INSTRUMENT",
        [
            '""',
            '"RELIANCE"',
            '"NSE:"',
            '":RELIANCE"',
            '"NYSE:IBM"',
            '"nse:RELIANCE"',
            '"NSE:reliance"',
            '"NSE:REL IANCE"',
            '" NSE:RELIANCE"',
            '"NSE:RELIANCE\\n"',
            '"NSE:NSE:RELIANCE"',
            '"NSE:\\u0663\\u0661"',
            '"NSE:\\u0410"',
            json.dumps("NSE:" + "A" * 47),
        ],
    ),
    *wrong(
        "side", "INVALID_REQUEST", [*NOT_STRINGS, '""', '"buy"', '"HOLD"', '"BUY "', '"BUY\\n"']
    ),
    *wrong("total_quantity", "INVALID_QUANTITY", WRONG_NUMBERS),
    *wrong("total_quantity", "INVALID_QUANTITY", ["0", "-0", "-1", "4", "1000000001"]),
    *wrong("split_config", "INVALID_SPLIT_CONFIG", NOT_OBJECTS),
]
WRONG_SPLITS = [
    *wrong("num_splits", "INVALID_SPLIT_CONFIG", WRONG_NUMBERS),
    *wrong("num_splits", "INVALID_SPLIT_CONFIG", ["0", "-0", "-1", "1", "101"]),
    *wrong("duration_minutes", "INVALID_SPLIT_CONFIG", WRONG_NUMBERS),
    *wrong("duration_minutes", "INVALID_SPLIT_CONFIG", ["0", "-0", "-1", "1441"]),
    *wrong("randomize", "INVALID_SPLIT_CONFIG", ["null", "0", "1", '"true"', "[]", "{}", "1.0"]),
    *wrong("randomize", "INVALID_SPLIT_CONFIG", [HUGE, "1e999"]),
]
FIELDS = ["order_unique_key", "instrument", "side", "total_quantity", "split_config"]


def shortened(value: str) -> str:
    return value if len(value) < 30 else f"{value[:12]}..({len(value)})"


@pytest.mark.parametrize(("field", "text", "code"), WRONG_FIELDS, ids=shortened)
async def test_a_wrong_value_has_its_fields_code(
    shared_api: httpx.AsyncClient, field: str, text: str, code: str
) -> None:
    details = fault(await post(shared_api, body(**{field: text})), 400, code)
    assert details["field"] == field
    assert details["expected"]


@pytest.mark.parametrize(("field", "text", "code"), WRONG_SPLITS, ids=shortened)
async def test_a_wrong_value_in_split_config_has_the_code_of_split_config(
    shared_api: httpx.AsyncClient, field: str, text: str, code: str
) -> None:
    request = body(split_config=split_config(**{field: text}))
    details = fault(await post(shared_api, request), 400, code)
    fields = {f"split_config.{field}"} | ({"split_config"} if text in UNREADABLE else set())
    assert details["field"] in fields
    assert details["expected"]


@pytest.mark.parametrize("field", FIELDS)
async def test_a_missing_field_is_named(shared_api: httpx.AsyncClient, field: str) -> None:
    details = fault(await post(shared_api, body(**{field: None})), 400, "INVALID_REQUEST")
    assert details["field"] == field


@pytest.mark.parametrize("field", ["num_splits", "duration_minutes"])
async def test_a_missing_field_of_split_config_is_named(
    shared_api: httpx.AsyncClient, field: str
) -> None:
    request = body(split_config=split_config(**{field: None}))
    details = fault(await post(shared_api, request), 400, "INVALID_REQUEST")
    assert details["field"] == f"split_config.{field}"


@pytest.mark.parametrize("name", ["price", "", "Side", "order_id", "\N{GRINNING FACE}", "a`b\n"])
async def test_an_unknown_field_is_refused(shared_api: httpx.AsyncClient, name: str) -> None:
    details = fault(await post(shared_api, body(**{name: "1"})), 400, "INVALID_REQUEST")
    assert details["field"] == name
    assert "order_unique_key" in details["expected"]


async def test_an_unknown_field_of_split_config_is_refused(shared_api: httpx.AsyncClient) -> None:
    request = body(split_config=split_config(jitter="1"))
    details = fault(await post(shared_api, request), 400, "INVALID_REQUEST")
    assert details["field"] == "split_config.jitter"


async def test_of_several_wrong_fields_one_gives_the_code(shared_api: httpx.AsyncClient) -> None:
    response = await post(shared_api, body(side='"HOLD"', total_quantity="0"))
    assert response.json()["error"]["code"] in {"INVALID_REQUEST", "INVALID_QUANTITY"}
    assert fault(response, 400, response.json()["error"]["code"])["field"] in FIELDS


@pytest.mark.parametrize(
    "texts",
    [
        {"instrument": '"NSE:M&M"'},
        {"instrument": '"NSE:BAJAJ-AUTO"'},
        {"instrument": '"BSE:500325"'},
        {"instrument": json.dumps("NSE:" + "A" * 46)},
        {"side": '"SELL"'},
        {"side": '"\\u0042UY"'},
        {"total_quantity": "1000000000"},
        {"total_quantity": "5"},
        {"split_config": '{"num_splits":2,"duration_minutes":1}'},
        {"split_config": '{"randomize":false,"duration_minutes":1440,"num_splits":100}'},
    ],
    ids=str,
)
async def test_the_edges_of_every_range_are_accepted(
    shared_api: httpx.AsyncClient, texts: dict[str, str]
) -> None:
    response = await post(shared_api, body(**texts))
    assert response.status_code == 201, response.text


@pytest.mark.parametrize(
    "key",
    [
        "k",
        "k" * 255,
        "\N{GRINNING FACE}" * 255,
        'say "hello"',
        "C:\\orders\\1",
        "\N{DEVANAGARI LETTER KA}\N{COMBINING ACUTE ACCENT}",
        "'; DROP TABLE stored_events; --",
        "%s {} \N{LINE SEPARATOR}\N{REPLACEMENT CHARACTER}",
    ],
    ids=ascii,
)
async def test_a_key_may_hold_any_character_but_control_characters(
    shared_api: httpx.AsyncClient, key: str
) -> None:
    for escaped in (True, False):
        request = body(order_unique_key=json.dumps(key, ensure_ascii=escaped))
        response = await post(shared_api, request)
        assert response.status_code in {200, 201}, response.text
        assert response.json()["order_unique_key"] == key
    order_id = response.json()["order_id"]
    answered = await shared_api.get(f"/pulse/internal/orders/{order_id}")
    assert answered.json()["order_unique_key"] == key


@pytest.mark.parametrize(
    "end", ["e\N{COMBINING ACUTE ACCENT}", "\N{LATIN SMALL LETTER E WITH ACUTE} "], ids=ascii
)
async def test_a_key_that_only_looks_like_another_is_refused(
    shared_api: httpx.AsyncClient, end: str
) -> None:
    key = new_key()
    one = await post(
        shared_api, body(order_unique_key=json.dumps(f"{key}\N{LATIN SMALL LETTER E WITH ACUTE}"))
    )
    two = await post(shared_api, body(order_unique_key=json.dumps(key + end)))
    assert one.status_code == 201
    assert fault(two, 400, "INVALID_REQUEST")["field"] == "order_unique_key"
