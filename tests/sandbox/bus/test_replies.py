"""Replies in the form of each service, as AWS's own parsers read them."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from botocore.parsers import create_parser

from pushrail_stream.sandbox.bus.replies import json_error, xml_error, xml_result
from pushrail_stream.sandbox.bus.wire import Reply

MESSAGE = 'not <allowed> & "refused"'


def parsed(service: str, operation: str, reply: Reply) -> Any:
    model = botocore.session.get_session().get_service_model(service)
    headers = {"x-amzn-requestid": reply.request_id, "content-type": reply.content_type}
    answer = {"status_code": reply.status, "headers": headers, "body": reply.body}
    shape: Any = model.operation_model(operation).output_shape
    return create_parser(model.metadata["protocol"]).parse(answer, shape)


@pytest.mark.parametrize("status", [400, 500])
def test_an_error_of_events_has_code_and_message(status: int) -> None:
    found = parsed("events", "PutEvents", json_error(status, "ValidationException", MESSAGE, "r-1"))
    assert found["Error"] == {"Code": "ValidationException", "Message": MESSAGE}
    assert found["ResponseMetadata"]["HTTPStatusCode"] == status


@pytest.mark.parametrize(("status", "side"), [(403, "Sender"), (503, "Receiver")])
def test_an_error_of_sts_names_its_side(status: int, side: str) -> None:
    found = parsed("sts", "AssumeRole", xml_error(status, "AccessDenied", MESSAGE, "r-1"))
    assert found["Error"] == {"Type": side, "Code": "AccessDenied", "Message": MESSAGE}
    assert found["ResponseMetadata"]["RequestId"] == "r-1"


def test_a_result_of_sts_is_read_by_its_shape() -> None:
    reply = xml_result("GetCallerIdentity", "<Account>123456789012</Account>", "r-1")
    assert parsed("sts", "GetCallerIdentity", reply)["Account"] == "123456789012"
