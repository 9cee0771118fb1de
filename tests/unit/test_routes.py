"""The route template of a path, which is a label of metrics and a field of request lines."""

import pytest

from pulse.http.routes import UNMATCHED, Routes

ORDER = "0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77"
ROUTES = Routes(
    [
        "/",
        "/health",
        "/internal/orders",
        "/internal/orders/batch",
        "/internal/orders/{order_id:str}",
        "/internal/orders/{order_id:str}/events",
        "/internal/halts/{halt_id:str}",
        "/docs/{name:str}",
    ]
)


@pytest.mark.parametrize(
    ("path", "template", "order_id"),
    [
        ("/", "/", None),
        ("/health", "/health", None),
        ("/health/", "/health", None),
        ("/internal/orders", "/internal/orders", None),
        ("/internal/orders/", "/internal/orders", None),
        ("/internal/orders/batch", "/internal/orders/batch", None),
        (f"/internal/orders/{ORDER}", "/internal/orders/{order_id}", ORDER),
        (f"/internal/orders/{ORDER}/", "/internal/orders/{order_id}", ORDER),
        (f"/internal/orders/{ORDER}/events", "/internal/orders/{order_id}/events", ORDER),
        ("/internal/orders/not-an-id", "/internal/orders/{order_id}", None),
        (f"/internal/halts/{ORDER}", "/internal/halts/{halt_id}", None),
        ("/docs/page.css", "/docs/{name}", None),
        ("/docs/a/b", UNMATCHED, None),
        (f"/internal/orders/{ORDER}\n", "/internal/orders/{order_id}", None),
        ("/internal/nowhere", UNMATCHED, None),
        ("", UNMATCHED, None),
        ("//", "/", None),
    ],
)
def test_a_path_has_the_template_that_matches_it(
    path: str, template: str, order_id: str | None
) -> None:
    assert ROUTES.find(path) == (template, order_id)


def test_without_templates_no_path_matches() -> None:
    assert Routes([]).find("/health") == (UNMATCHED, None)
