"""Adds to the generated orders the rules that JSON Schema cannot express."""

import unicodedata
from typing import Any

import schemathesis


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Write integers without a fraction (JSON Schema accepts 5.0) and keys in Unicode NFC."""
    del context
    if isinstance(body, dict) and isinstance(body.get("order_unique_key"), str):
        key = unicodedata.normalize("NFC", body["order_unique_key"])
        body = {**body, "order_unique_key": key}
    return _whole(body)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Give an order that is meant to be valid at least one share per slice, and a valid window."""
    del context, kwargs
    meant_to_be_valid = case.meta is None or case.meta.generation.mode.is_positive
    if meant_to_be_valid and isinstance(case.body, dict) and "split_config" in case.body:
        config = case.body["split_config"]
        splits = config.get("num_splits", 0)
        config.pop("start_at", None)  # nearly all times are in the past or too far ahead
        config.pop("session_policy", None)
        case.body["total_quantity"] = max(case.body.get("total_quantity", 0), splits)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value
