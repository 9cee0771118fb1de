"""The release check: which licences it allows, and how it compares the README."""

import pytest

from tests.release.components import check_licenses, is_allowed
from tests.release.environments import CheckFailed
from tests.release.readme import Command, commands


@pytest.mark.parametrize(
    "text",
    [
        "MIT",
        "MIT License\n\nCopyright (c) 2022",
        "GPL-3.0-only OR MIT",
        "Apache-2.0 AND BSD-3-Clause",
        "Apache Software License; MIT License",
        "Mozilla Public License 2.0 (MPL 2.0)",
    ],
)
def test_this_licence_is_allowed(text: str) -> None:
    assert is_allowed(text)


@pytest.mark.parametrize(
    "text",
    ["", "UNKNOWN", "GPL-3.0-only", "MIT AND GPL-3.0-only", "MIT License; Proprietary", "mit-ish"],
)
def test_this_licence_is_not_allowed(text: str) -> None:
    assert not is_allowed(text)


def test_the_message_names_the_package_and_its_licence() -> None:
    with pytest.raises(CheckFailed, match=r"rogue: AGPL-3\.0$"):
        check_licenses({"fine": "MIT", "rogue": "AGPL-3.0"})


def test_commands_of_a_page_are_parsed_with_their_output() -> None:
    page = (
        "text\n```console\n$ one   # comment\n$ two \\\n    more\nprinted\n\n$ three\n```\n"
        "```sh\nno\n```\n"
    )
    assert commands(page) == [
        Command("one   # comment", ""),
        Command("two \\\n    more", "printed\n"),
        Command("three", ""),
    ]
    assert commands(page)[0].program == "one"


def test_output_is_compared_except_for_gaps_and_times() -> None:
    written = Command("get", '{"id":"1", … ,"at":"2026-11-23T23:19:26.304004Z","state":"DONE"}')
    assert written.fits('{"id":"1","x":{},"at":"2027-01-01T00:00:00Z","state":"DONE"}\n')
    assert not written.fits('{"id":"1","x":{},"at":"2027-01-01T00:00:00Z","state":"NEW"}\n')
    assert not written.fits('{"id":"2","x":{},"at":"2027-01-01T00:00:00Z","state":"DONE"}\n')
    assert Command("silent", "").fits("anything")
