from markupsafe import Markup

from pulse.http.console.charts.svg import element, picture

HOSTILE = "<script>alert('x')</script>\"&"


def test_text_and_attributes_are_escaped() -> None:
    written = element("text", HOSTILE, data_key=HOSTILE)

    assert "<script" not in written
    assert written.count("&lt;script&gt;") == 2
    assert written.startswith('<text data-key="')


def test_elements_within_elements_are_kept() -> None:
    assert element("g", element("line", x1=1.0, x2=2.505)) == '<g><line x1="1" x2="2.5"/></g>'


def test_attributes_without_a_value_are_left_out() -> None:
    assert element("rect", class_=None, width=3) == Markup('<rect width="3"/>')


def test_large_coordinates_are_not_written_as_powers_of_ten() -> None:
    assert element("rect", width=123456789.0) == '<rect width="123456789"/>'


def test_a_picture_is_named_for_screen_readers() -> None:
    written = picture("one", 10, 20, "Title <b>", "Text & more")

    assert 'aria-labelledby="one-title" aria-describedby="one-description"' in written
    assert '<title id="one-title">Title &lt;b&gt;</title>' in written
    assert '<desc id="one-description">Text &amp; more</desc>' in written
