"""EventBridge's facts, against AWS's own description of the service, and the ways to sign in."""

from __future__ import annotations

import dataclasses

import botocore.session
import pytest

from pushrail_stream.core.destination import Destination, Secret
from pushrail_stream.settings.eventbridge import CLASSIC, AccessKey, AssumeRole, auth_of
from tests.support.builders import destination


def test_a_call_has_as_many_entries_as_aws_takes() -> None:
    service = botocore.session.get_session().get_service_model("events")
    assert service.shape_for("PutEventsRequestEntryList").metadata["max"] == CLASSIC.limits.max_entries


@pytest.mark.parametrize("auth", [AssumeRole("arn:aws:iam::123456789012:role/Writer", "ext"), AccessKey("AKIA", None)])
def test_a_destination_has_its_way_to_sign_in(auth: AssumeRole | AccessKey) -> None:
    assert auth_of(destination(auth=auth)) is auth


def test_another_type_of_destination_cannot_sign_in() -> None:
    other: Destination = dataclasses.replace(destination(), auth="a token")
    with pytest.raises(TypeError, match="dst_acme is no destination on EventBridge"):
        auth_of(other)


def test_a_key_does_not_show_its_secret() -> None:
    assert "not-to-be-shown" not in repr(AccessKey("AKIA", Secret("not-to-be-shown")))
