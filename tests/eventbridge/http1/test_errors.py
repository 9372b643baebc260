from __future__ import annotations

import errno
import os
import ssl

from pushrail_stream.eventbridge.http1.errors import (
    ClientConnectorCertificateError,
    ClientConnectorError,
    connect_error,
)


def test_a_failure_to_connect_names_server_and_reason() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    assert str(connect_error(ClientConnectorError, "bus:443", refused)) == (
        "Cannot connect to host bus:443 ssl:default [Connection refused]"
    )
    assert str(connect_error(ClientConnectorError, "bus:443", OSError("no reason"))).endswith("[no reason]")


def test_a_failure_of_tls_names_its_kind() -> None:
    error = connect_error(ClientConnectorCertificateError, "bus:443", ssl.SSLCertVerificationError(1, "self-signed"))
    assert type(error) is ClientConnectorCertificateError
    assert str(error) == "Cannot connect to host bus:443 ssl:True [SSLCertVerificationError: (1, 'self-signed')]"
