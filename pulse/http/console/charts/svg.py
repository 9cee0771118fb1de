"""Writes SVG. Text and attribute values are escaped; children that are Markup are kept."""

from typing import Final

from markupsafe import Markup, escape

Value = str | int | float

_PARTS_PER_UNIT: Final = 100
"""Coordinates are rounded to a hundredth."""


def element(name: str, *children: str, **attributes: Value | None) -> Markup:
    """An element with its children. Attributes that are None are left out.

    In an attribute's name `_` is written as `-`, and one at the end is dropped, as in `class_`.
    """
    written = "".join(
        f' {attribute.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for attribute, value in attributes.items()
        if value is not None
    )
    content = "".join(map(escape, children))
    if not content:
        return Markup(f"<{name}{written}/>")  # noqa: S704 - every part is escaped above
    return Markup(f"<{name}{written}>{content}</{name}>")  # noqa: S704 - likewise


def picture(  # noqa: PLR0913 - what every image has
    identity: str,
    width: int,
    height: int,
    title: str,
    description: str,
    *children: str,
    keeps_shape: bool = True,
) -> Markup:
    """An image that scales with the page. Screen readers read the title and the description.

    `identity` is unique in the page. An image that does not keep its aspect ratio fills its box.
    """
    title_id, description_id = f"{identity}-title", f"{identity}-description"
    return element(
        "svg",
        element("title", title, id=title_id),
        element("desc", description, id=description_id),
        *children,
        class_=f"chart {identity}",
        viewBox=f"0 0 {width} {height}",
        preserveAspectRatio=None if keeps_shape else "none",
        role="img",
        aria_labelledby=title_id,
        aria_describedby=description_id,
    )


def _text(value: Value) -> str:
    if not isinstance(value, float):
        return str(value)
    rounded = round(value * _PARTS_PER_UNIT) / _PARTS_PER_UNIT
    return f"{rounded:g}" if abs(rounded) < _PARTS_PER_UNIT**2 else f"{rounded:.0f}"
