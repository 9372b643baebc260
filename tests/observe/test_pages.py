"""Pages for people: what is text is escaped, and nothing is loaded."""

from __future__ import annotations

from pushrail_stream.observe.pages import page, section


def test_a_title_is_text() -> None:
    shown = page("<worker>", "<p>body</p>")
    assert "<title>&lt;worker&gt;</title>" in shown
    assert "<h1>&lt;worker&gt;</h1><p>body</p></html>" in shown
    assert section("<b>", ("<i>",), [["1"]]) == (
        "<h2>&lt;b&gt;</h2><table><tr><th>&lt;i&gt;</th></tr><tr><td data-h='&lt;i&gt;'>1</td></tr></table>"
    )


def test_only_a_page_that_changes_is_loaded_again() -> None:
    assert "http-equiv=refresh content=5>" in page("w", "", refresh_secs=5)
    assert "refresh" not in page("w", "")


def test_columns_have_their_kind_in_head_and_rows() -> None:
    shown = section("t", ("name", "count", "message"), [["a", "1", "m"]], numbers=(1,), prose=2)
    assert "<th>name</th><th class=n>count</th><th class=m>message</th>" in shown
    assert "<td data-h='name'>a</td><td class=n data-h='count'>1</td><td class=m data-h='message'>m</td>" in shown


def test_a_long_cell_may_break_its_lines() -> None:
    assert f"<td class=l data-h='it&#x27;s'>{'x' * 31}</td>" in section("t", ("it's",), [["x" * 31]])


def test_an_empty_table_says_so() -> None:
    assert section("t", ("name",), []) == "<h2>t</h2><p class=dim>None.</p>"


def test_an_empty_column_takes_no_place() -> None:
    shown = section("t", ("name", "nothing", "some"), [["a", "", ""], ["b", "", "c"]], numbers=(2,))
    assert "nothing" not in shown
    assert "<td data-h='name'>a</td><td class=n data-h='some'></td>" in shown
