"""The catalog applies changes, keeps the last good document, and lets no customer take another's values."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.settings.eventbridge import AccessKey
from tests.support.builders import v2_bus_arn
from tests.support.catalogs import change, ids, loaded, parse
from tests.support.documents import customer


def test_documents_are_added_changed_and_removed() -> None:
    catalog, first = loaded(a=customer("a"), b=customer("b"))
    assert (first.put, first.removed, first.refusals) == (("dst_a", "dst_b"), (), ())
    changed = catalog.apply([change("a", customer("a", enabled=False)), change("b", None), change("c", customer("c"))])
    assert (changed.put, changed.removed) == (("dst_a", "dst_c"), ("dst_b",))
    assert ids(catalog) == ["dst_a", "dst_c"]
    off = catalog.get("dst_a")
    assert off is not None
    assert not off.enabled
    assert list(catalog.route("acme", "acct_a")) == [off]
    assert catalog.get("dst_b") is None


def test_two_customers_do_not_share_a_bus_that_keeps_a_key_once() -> None:
    arn = v2_bus_arn("a")
    catalog, _ = loaded(a=customer("a", busArn=arn))
    (refusal,) = catalog.apply([change("b", customer("b", busArn=arn))]).refusals
    assert ids(catalog) == ["dst_a"]
    assert (refusal.document, refusal.field) == ("b", "busArn")
    assert refusal.problem.startswith("is in use for another customer (a)")
    classic, _ = loaded(a=customer("a"), b=customer("b"))
    assert ids(classic) == ["dst_a", "dst_b"]


def test_an_unchanged_document_is_no_change() -> None:
    catalog, _ = loaded(a=customer("a"))
    again = catalog.apply([change("a", customer("a"))])
    assert (again.put, again.removed, again.refusals) == ((), (), ())


def test_a_bad_edit_keeps_the_last_good_document() -> None:
    catalog, _ = loaded(a=customer("a"), b=customer("b"))
    before = catalog.get("dst_a")
    half = catalog.apply([change("a", b'{"id": "dst_a", ')])
    assert [(refusal.document, refusal.field) for refusal in half.refusals] == [("a", "")]
    wrong = catalog.apply([change("a", customer("a", region="mars"))])
    assert [refusal.field for refusal in wrong.refusals] == ["region"]
    gone = catalog.apply([DocumentChange("a", None, "cannot be read: permission denied")])
    assert str(gone.refusals[0]) == "a: cannot be read: permission denied"
    assert catalog.get("dst_a") is before
    assert catalog.bad == 1
    mended = catalog.apply([change("a", customer("a", enabled=False))])
    assert mended.put == ("dst_a",)
    assert catalog.bad == 0


def test_a_removed_bad_document_is_gone() -> None:
    catalog, _ = loaded(a=customer("a"))
    catalog.apply([change("a", b"{")])
    assert catalog.apply([change("a", None)]).removed == ("dst_a",)
    assert (len(catalog), catalog.bad) == (0, 0)


def test_a_clash_ends_with_the_other_document() -> None:
    catalog, _ = loaded(a=customer("a"))
    catalog.apply([change("thief", customer("thief", role="a"))])
    freed = catalog.apply([change("a", None)])
    assert (freed.put, freed.removed) == (("dst_thief",), ("dst_a",))
    assert catalog.bad == 0


def test_a_clashing_edit_keeps_the_good_one() -> None:
    catalog, _ = loaded(a=customer("a"), b=customer("b"))
    before = catalog.get("dst_b")
    refused = catalog.apply([change("b", customer("b", role="a"))])
    assert [refusal.field for refusal in refused.refusals] == ["auth.roleArn"]
    assert catalog.get("dst_b") is before
    assert catalog.apply([change("a", customer("a", role="other"))]).put == ("dst_a", "dst_b")


def blocked(catalog: Catalog, customer_id: str) -> list[str]:
    """Destinations of a customer that no call is made for: their events become dead letters."""
    route = catalog.route("acme", customer_id)
    return [destination.id for destination in route if destination.bus.auth == AccessKey("", None)]


def test_a_good_document_ends_its_stand_in() -> None:
    catalog, first = loaded(
        disputed=customer("d", role="r"),
        thief=customer("t", role="r"),
        wrong=customer("w", region="mars", busArn="nonsense", eventTypes=["a.*"], surprise=1),
        off=customer("o", region="mars", enabled=False),
        nobody={"id": "dst_n", "vendor": "acme", "customerExternalId": 7},
        half=b'{"id": "dst_half", ',
    )
    assert {refusal.document for refusal in first.refusals} == {"disputed", "thief", "wrong", "off", "nobody", "half"}
    assert (ids(catalog), len(catalog), catalog.bad) == ([], 0, 6)
    assert [blocked(catalog, f"acct_{c}") for c in "dtwo"] == [["dst_d"], ["dst_t"], ["dst_w"], ["dst_o"]]
    wrong, off = catalog.get("dst_w"), catalog.get("dst_o")
    assert wrong is not None
    assert off is not None
    assert (wrong.wants_type("a.b"), wrong.wants_type("b")) == (True, False)
    assert not off.enabled
    assert catalog.is_refused("dst_w")
    assert catalog.document_of("dst_w") == "wrong"
    mended = catalog.apply([change("wrong", customer("w")), change("thief", None), change("off", None)])
    assert (mended.put, mended.removed) == (("dst_d", "dst_w"), ())
    assert [blocked(catalog, f"acct_{c}") for c in "dtwo"] == [[], [], [], []]
    catalog.apply([change("wrong", b"{")])
    assert blocked(catalog, "acct_w") == [], "the last good one is in use"
    assert not catalog.is_refused("dst_w")


def test_a_refused_new_document_has_a_stand_in() -> None:
    catalog, _ = loaded(a=customer("a"))
    catalog.apply([change("thief", customer("thief", role="a")), change("new", customer("new", type="SQS"))])
    assert (blocked(catalog, "acct_thief"), blocked(catalog, "acct_new")) == (["dst_thief"], ["dst_new"])
    assert blocked(catalog, "acct_a") == []


def test_stand_ins_of_a_disputed_id_have_other_ids() -> None:
    """Dead letters name their destination. A replay must not send them to the next owner of the id."""
    catalog, _ = loaded(a=customer("a", id="dst_1"), b=customer("b", id="dst_1"))
    assert blocked(catalog, "acct_a") == ["dst_1 of acme/acct_a"]
    assert blocked(catalog, "acct_b") == ["dst_1 of acme/acct_b"]
    assert catalog.get("dst_1") is None
    assert catalog.apply([change("b", None)]).put == ("dst_1",)
    assert blocked(catalog, "acct_a") == []


def test_equal_documents_share_one_stand_in() -> None:
    catalog, _ = loaded(a=customer("a"), b=customer("a", enabled=False))
    assert ids(catalog) == []
    assert blocked(catalog, "acct_a") == ["dst_a"]


@pytest.mark.parametrize("steps", [1, 2])
def test_a_rename_wins_over_a_claim(steps: int) -> None:
    catalog, _ = loaded(a=customer("a"))
    catalog.apply([change("thief", customer("thief", role="a", external_id="mine"))])
    moved = [change("renamed", customer("a")), change("a", None)]
    for batch in [moved] if steps == 1 else [[one] for one in moved]:
        catalog.apply(batch)
    assert ids(catalog) == ["dst_a"]
    assert catalog.document_of("dst_a") == "renamed"
    assert catalog.bad == 1


def test_a_bad_edit_after_a_good_one_is_refused() -> None:
    catalog, _ = loaded(a=customer("a"))
    both = catalog.apply([change("a", customer("a", enabled=False)), change("a", b"{")])
    assert (both.put, [refusal.document for refusal in both.refusals]) == (("dst_a",), ["a"])
    now = catalog.get("dst_a")
    assert now is not None
    assert not now.enabled
    assert catalog.bad == 1
    catalog.apply([change("a", customer("a")), change("a", None)])
    assert (ids(catalog), catalog.bad) == ([], 0)


def test_the_order_of_the_first_read_does_not_matter() -> None:
    documents = {
        "a": customer("a", external_id="x"),
        "b": customer("b", external_id="x"),
        "c": customer("c", id="dst_d"),
        "d": customer("d"),
        "e": customer("e"),
    }
    for names in permutations(documents):
        catalog, _ = loaded(**{name: documents[name] for name in names})
        assert ids(catalog) == ["dst_e"]


def test_a_first_clash_refuses_all() -> None:
    catalog, first = loaded(a=customer("a", role="r"), b=customer("b", role="r"), c=customer("c"))
    assert {refusal.document for refusal in first.refusals} == {"a", "b"}
    assert ids(catalog) == ["dst_c"]
    assert catalog.bad == 2
    assert catalog.apply([change("d", customer("d"))]).put == ("dst_d",), "what is disputed stays disputed"
    third = catalog.apply([change("e", customer("e", role="r"))])
    assert [refusal.field for refusal in third.refusals] == ["auth.roleArn"]
    catalog.apply([change("e", None)])
    assert catalog.apply([change("b", None)]).put == ("dst_a",)


def test_the_first_owner_of_a_disputed_role_keeps_it() -> None:
    catalog, _ = loaded(a=customer("a"))
    catalog.apply([change("thief", customer("thief", role="a"))])
    assert catalog.apply([change("a", customer("a", enabled=False))]).put == ("dst_a",)


def steps_of(act: Callable[[], object]) -> int:
    """Calls of functions, Python's and C's, that an action makes: a measure of its work that no machine slows down."""
    steps = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal steps
        steps += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return steps


def test_a_change_costs_the_same_for_any_number() -> None:
    steps: dict[str, list[int]] = {}
    for others in (10, 500):
        catalog, first = loaded(
            **{f"n{number}": customer(f"n{number}") for number in range(others)},
            **{f"bad{number}": customer(f"bad{number}", region="mars") for number in range(others)},
            **{f"disputed{number}": customer(f"disputed{number}", role="all") for number in range(2)},
        )
        assert len(first.put) == others
        for what, content in (
            ("edited", customer("n7", enabled=False)),
            ("refused", customer("n7", region="mars")),
            ("clashing", customer("n7", role="n8")),
            ("gone", None),
            ("new", customer("n7")),
        ):
            read = catalog.read([change("n7", content)])
            steps.setdefault(what, []).append(steps_of(partial(catalog.take, read)))
    for what, (few, many) in steps.items():
        assert many == few, what


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"), st.sampled_from("abcd")), max_size=12))
def test_no_document_waits_for_an_unrelated_change(story: list[tuple[str, str, str]]) -> None:
    """Each document is decided on when a document with the same claim changes, and not later."""
    catalog = Catalog(parse)
    catalog.apply([change("z", customer("z"))])
    for number, (name, role, external_id) in enumerate(story):
        content = customer(name, role=role, external_id=f"ext-{external_id}") if (role, name) != ("d", "a") else None
        catalog.apply([change(name, content)])
        usable, standing = ids(catalog), [catalog.get(f"dst_{name}") for name in "abcd"]
        unrelated = catalog.apply([change("z", customer("z", enabled=number % 2 == 1))])
        assert (unrelated.put, unrelated.removed) == (("dst_z",), ())
        assert ids(catalog) == usable
        assert [catalog.get(f"dst_{name}") for name in "abcd"] == standing


def test_a_moving_destination_is_always_found() -> None:
    """Another thread takes changes in: a customer who seems to have no destination would lose events."""
    catalog, _ = loaded(one=customer("a"))
    done = threading.Event()
    missing: list[int] = []

    def look() -> None:
        while not done.is_set():
            missing.append(int(catalog.get("dst_a") is None or not catalog.route("acme", "acct_a")))

    looking = threading.Thread(target=look)
    looking.start()
    names = ["one", "two"]
    for _ in range(500):
        names.reverse()
        catalog.apply([change(names[0], customer("a")), change(names[1], None)])
    done.set()
    looking.join()
    assert sum(missing) == 0
