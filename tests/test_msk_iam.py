"""Tokens for Amazon MSK: those of AWS's own signer, byte for byte but for the name of the program."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from unittest.mock import patch

import botocore.auth
import botocore.session
import pytest
from botocore.credentials import Credentials

from pushrail_stream import msk_iam

AT = datetime(2026, 5, 26, 14, 21, 8, tzinfo=UTC)
HEAD = (
    "https://kafka.eu-west-1.amazonaws.com/?Action=kafka-cluster%3AConnect&X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20260526%2Feu-west-1%2Fkafka-cluster%2Faws4_request"
    "&X-Amz-Date=20260526T142108Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host"
)
KEY_PAIR = "&X-Amz-Signature=ef46a7688ec9edfd976c4a82f28ac17b1a9b400c4ef143af931db3fae57910c7"
SESSION = (
    "&X-Amz-Security-Token=session%2Ftoken%3D%3D"
    "&X-Amz-Signature=066aaffe7a87d6aff52422ba1614478a0cb41794aaab71a5c22a9357dc134e8c"
)


def token_with(credentials: Credentials | None) -> tuple[str, float]:
    """The token at a fixed time, its address in clear."""
    with (
        patch.object(botocore.auth, "get_current_datetime", lambda *_args, **_options: AT.replace(tzinfo=None)),
        patch.object(botocore.session.Session, "get_credentials", lambda _session: credentials),
    ):
        token, expires_at = msk_iam.msk_token("eu-west-1")
    assert "=" not in token
    return base64.urlsafe_b64decode(f"{token}==").decode(), expires_at


@pytest.mark.parametrize(("session_token", "rest"), [(None, KEY_PAIR), ("session/token==", SESSION)])
def test_a_token_is_that_of_awss_own_signer(session_token: str | None, rest: str) -> None:
    """Recorded from aws-msk-iam-sasl-signer-python 1.0.2 with botocore 1.44.8, at the same time."""
    keys = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", session_token)

    url, expires_at = token_with(keys)

    assert url == f"{HEAD}{rest}&User-Agent=pushrail-stream"
    assert expires_at == AT.timestamp() + 900


def test_without_credentials_there_is_no_token() -> None:
    with pytest.raises(msk_iam.NoCredentials, match="AWS's standard chain has no credentials"):
        token_with(None)
