"""Tokens with which Kafka clients log in to Amazon MSK by IAM: presigned addresses, made with our own credentials.

The form is that of AWS's signer library (aws-msk-iam-sasl-signer-python 1.0.2). botocore finds the credentials in AWS's
standard chain and renews them.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final

import botocore.session
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

_LIFE_SECS: Final = 900
"""Seconds for which MSK takes a token, the most that it allows. librdkafka asks for another after 80 % of them."""
_SERVICE: Final = "kafka-cluster"
_USER_AGENT: Final = "pushrail-stream"


class NoCredentials(Exception):  # noqa: N818 - it says what is missing
    """AWS's standard chain has no credentials for us."""


def msk_token(region: str) -> tuple[str, float]:
    """A token for the MSK clusters of a region, and its end in epoch seconds. May block while the chain is read."""
    request = AWSRequest("GET", f"https://kafka.{region}.amazonaws.com/", params={"Action": f"{_SERVICE}:Connect"})
    SigV4QueryAuth(_own_credentials(), _SERVICE, region, expires=_LIFE_SECS).add_auth(request)
    signed_at = datetime.strptime(request.context["timestamp"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    request.params = {"User-Agent": _USER_AGENT}
    url: str = request.prepare().url
    return base64.urlsafe_b64encode(url.encode()).decode().rstrip("="), (
        signed_at + timedelta(seconds=_LIFE_SECS)
    ).timestamp()


def _own_credentials() -> ReadOnlyCredentials:
    """Our credentials of this moment, which belong together. Those that end are renewed minutes before."""
    found = _session().get_credentials()
    if found is None:
        raise NoCredentials("AWS's standard chain has no credentials")
    return found.get_frozen_credentials()


@cache
def _session() -> botocore.session.Session:
    """The session of this process. It keeps the credentials that it has found."""
    return botocore.session.Session()
