"""Ids, roles and external IDs belong to one document or customer each."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.settings.eventbridge import auth_of
from tests.support.catalogs import change, ids, loaded, parse
from tests.support.documents import customer


def test_a_value_in_use_cannot_be_taken() -> None:
    catalog, _ = loaded(a=customer("a"))
    before = catalog.get("dst_a")
    for thief, field in (
        (customer("thief", id="dst_a"), "id"),
        (customer("thief", role="a"), "auth.roleArn"),
        (customer("thief", external_id="ext-a"), "auth.externalId"),
    ):
        refused = catalog.apply([change("thief", thief)])
        assert [(refusal.document, refusal.field) for refusal in refused.refusals] == [("thief", field)]
        assert ids(catalog) == ["dst_a"]
        assert catalog.get("dst_a") is before
    assert catalog.bad == 1


def test_the_same_customer_may_use_its_role_twice() -> None:
    catalog, _ = loaded(a=customer("a"))
    second = customer("a", id="dst_a2")
    assert catalog.apply([change("a2", second)]).refusals == ()
    assert ids(catalog) == ["dst_a", "dst_a2"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"),
            st.sampled_from(["good", "off", "bad", "gone", "thief"]),
        ),
        max_size=20,
    )
)
def test_no_changes_share_a_role_or_an_id(story: list[tuple[str, str]]) -> None:
    catalog = Catalog(parse)
    contents: dict[str, bytes | dict[str, Any] | None] = {}
    for name, becomes in story:
        contents[name] = {
            "good": customer(name),
            "off": customer(name, enabled=False),
            "bad": b"[",
            "gone": None,
            "thief": customer(name, role="a", id=f"dst_{name}"),
        }[becomes]
        catalog.apply([change(name, contents[name])])
        destinations = list(catalog)
        roles = [auth_of(destination).role_arn for destination in destinations]  # type: ignore[union-attr]
        assert len(set(roles)) == len(roles)
        assert len({destination.id for destination in destinations}) == len(destinations)
    for name, content in contents.items():
        if content is None:
            assert catalog.get(f"dst_{name}") is None
