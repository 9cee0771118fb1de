"""docs/reference/settings.md has the table that `pulse config --markdown` prints."""

from pulse.cli.config import markdown_table
from tests.support.processes import ROOT


def test_the_page_has_the_table_of_the_code() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert "\n".join(markdown_table()) in page
