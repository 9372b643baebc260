"""HTML pages: texts are escaped, and a page runs and loads nothing."""

from __future__ import annotations

from pushrail_stream.observe.pages import POLICY, page, section


def test_a_title_cannot_become_markup() -> None:
    shown = page("<script>a</script>", "<p>body</p>")
    assert shown.count("&lt;script&gt;a&lt;/script&gt;") == 2
    assert "<script" not in shown
    assert "<p>body</p>" in shown


def test_a_page_is_loaded_again_on_request_only() -> None:
    assert "http-equiv=refresh" not in page("title", "")
    assert "<meta http-equiv=refresh content=5>" in page("title", "", refresh_secs=5)


def test_the_policy_allows_styles_only() -> None:
    assert POLICY == "default-src 'none'; style-src 'unsafe-inline'"


def test_a_table_marks_numbers_and_prose() -> None:
    shown = section("Lanes & more", ("id", "calls", "why"), [("dst_1", "3", "a long text")], numbers=[1], prose=2)
    assert "<h2>Lanes &amp; more</h2>" in shown
    assert "<tr><th>id</th><th class=n>calls</th><th class=m>why</th></tr>" in shown
    assert "<tr><td>dst_1</td><td class=n>3</td><td class=m>a long text</td></tr>" in shown


def test_an_empty_table_says_so() -> None:
    assert section("Lanes", ("id",), []) == "<h2>Lanes</h2><p class=dim>None.</p>"
