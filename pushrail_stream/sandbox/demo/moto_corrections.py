"""Where moto 5.2 answers otherwise than AWS in what the demo shows, it is corrected here, in moto's own process.

* An event arrives without ``account`` and with ``<id>`` and the like replaced inside ``detail``. AWS sends it whole.
* The trust policy of a role in another account is never looked at, so that any external ID will do.
* A call to EventBridge that is not allowed is refused in XML, with status 403. AWS refuses it in JSON, with 400.
* Every request needs a connection of its own, and is logged. AWS keeps connections open.
* Queues count their messages one by one for every message sent or received: with a thousand of them a call takes
  half a second. The counts are approximate on AWS too; here they are all messages that were not deleted. The rest of
  the time went into deriving the same attribute names, and into reading the clock for every message waiting.
"""

from __future__ import annotations

import functools
import time
from typing import Any, Final

from moto.core.exceptions import AccessDeniedError, AWSError
from moto.events.utils import EventTemplateParser
from moto.iam.access_control import IAMRequest, IAMRequestBase
from moto.iam.models import IAMBackend, iam_backends
from moto.moto_server.werkzeug_app import MotoRequestHandler
from moto.sqs import models as sqs
from moto.utilities.utils import get_partition

_EVENT_FIELDS: Final = (
    "version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail",
)  # fmt: skip
"""The envelope of a delivered event, in the order of AWS's documentation."""


def correct_moto() -> None:
    """Put the corrections in force. Raises AttributeError when moto is not built as it was."""
    transform = EventTemplateParser.parse

    def parse(input_template: str | None, input_paths_map: dict[str, Any], event: Any) -> dict[str, Any]:
        if input_template is None:
            return {name: event[name] for name in _EVENT_FIELDS}
        transformed: dict[str, Any] = transform(input_template, input_paths_map, event)
        return transformed

    _replace(EventTemplateParser, "parse", staticmethod(parse))
    _replace(IAMRequestBase, "backend", property(_trusting_account))
    _replace(IAMRequest, "_raise_access_denied", _refuse)
    _replace(MotoRequestHandler, "protocol_version", "HTTP/1.1")
    # A reply is two writes: without this each waits 40 ms for the client's kernel.
    _replace(MotoRequestHandler, "disable_nagle_algorithm", True)
    _replace(MotoRequestHandler, "log_request", lambda *_request: None)
    _replace(sqs.Queue, "approximate_number_of_messages", property(lambda queue: len(queue._messages)))  # noqa: SLF001
    name_of = "camelcase_to_underscores"
    _replace(sqs, name_of, functools.cache(getattr(sqs, name_of)))
    _replace(sqs, "unix_time_millis", lambda: time.time_ns() / 1e6)
    for count in ("approximate_number_of_messages_delayed", "approximate_number_of_messages_not_visible"):
        _replace(sqs.Queue, count, property(lambda _queue: 0))


def _trusting_account(request: Any) -> IAMBackend:
    """The IAM of the account that decides: for AssumeRole the role's, else the caller's."""
    account = request.account_id
    if request._action == "sts:AssumeRole":  # noqa: SLF001 - moto keeps it to itself
        given = request._data.get("RoleArn", "")  # noqa: SLF001 - as above
        role_arn = given[0] if isinstance(given, list) else given
        account = role_arn.split(":")[4]
    backend: IAMBackend = iam_backends[account][get_partition(request._region)]  # noqa: SLF001 - as above
    return backend


def _refuse(request: Any) -> None:
    """Raise the denial in the format of the service's protocol."""
    action = request._action  # noqa: SLF001 - moto keeps it to itself
    denied = AccessDeniedError(user_arn=request._access_key.arn, action=action)  # noqa: SLF001 - as above
    if action.startswith("events:"):
        raise AWSError(denied.message, "AccessDeniedException", 400)
    raise denied


def _replace(owner: object, name: str, value: object) -> None:
    getattr(owner, name)
    setattr(owner, name, value)
