"""docs/reference/errors.md has every error code, order-life.md every reason of failure."""

import re
from collections.abc import Iterator
from typing import Any

from pulse.domain import SPLITTING_ERROR, TIMED_OUT, TOO_LATE
from pulse.http.errors import CODES
from tests.support import documents
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "reference" / "errors.md").read_text()
ORDER_LIFE = (ROOT / "docs" / "reference" / "order-life.md").read_text()
ROWS = dict(re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", PAGE, re.MULTILINE))


def answered(value: Any) -> Iterator[tuple[str, str]]:
    """Every status and code among the examples of a document."""
    for methods in value["paths"].values():
        for described in methods.values():
            for status, answer in described["responses"].items():
                examples = answer.get("content", {}).get("application/json", {}).get("examples", {})
                for example in examples.values():
                    if isinstance(example["value"], dict) and "error" in example["value"]:
                        yield example["value"]["error"]["code"], status


def test_the_page_has_every_code_with_its_status() -> None:
    met = {*answered(documents.API), *answered(documents.GATEWAY)}
    met |= {(code, str(status)) for status, code in CODES.items()}

    assert len(met) > 10
    assert met == set(ROWS.items())


def test_the_page_has_every_reason_of_failure() -> None:
    for reason in (TIMED_OUT, TOO_LATE, SPLITTING_ERROR):
        assert f"| `{reason}` |" in ORDER_LIFE
