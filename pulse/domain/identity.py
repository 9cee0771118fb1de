"""An order's id is derived from its key, so the log's primary key deduplicates orders."""

import json
from uuid import UUID, uuid5

PULSE_NAMESPACE = UUID("6f1d2a5e-7c43-5b0e-9a86-2f6c1b7d9e40")
"""The namespace of every order id. It must never change: stored ids are derived from it."""

INTERNAL_SCOPE = "internal"
"""The key scope of the internal API, which is one trust domain."""

_canonical = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def order_id_for(key_scope: str, order_unique_key: str) -> UUID:
    """The id of the order that owns this key: uuid5 over the canonical JSON `[scope,key]`.

    Canonical as in RFC 8785: UTF-8, no white space, no unnecessary escapes. The JSON array keeps
    the boundary between scope and key unambiguous.
    """
    return uuid5(PULSE_NAMESPACE, _canonical([key_scope, order_unique_key]))
