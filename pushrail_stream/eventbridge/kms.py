"""Master keys in AWS KMS: data keys are made and unwrapped there, with the process's own credentials."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, final

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from pushrail_stream.blocking import start_daemon_thread
from pushrail_stream.core.text import safe_message
from pushrail_stream.eventbridge.error_codes import is_our_fault
from pushrail_stream.eventbridge.http import decompressed
from pushrail_stream.ports.secrets import KeyUnavailable
from pushrail_stream.settings.values import Arn

_TIMEOUT_SECS: Final = 3.0
_ATTEMPTS: Final = 3
_PAUSE_SECS: Final = 5.0
"""Seconds without calls after KMS gave no answer or refused our credentials: thousands of documents must not wait for a
time-out, or look for credentials, each."""
_MAX_KEPT: Final = 20_000
"""Unwrapped data keys of 32 bytes that are kept: a document that is read again needs no call."""
_CONNECTIONS: Final = 16
_KEY_BYTES: Final = 32
"""Bytes of an AES-256 key."""
_WRONG_KEY: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})


@final
class KmsKey:
    """One KMS key. Implements `ports.secrets.MasterKey`. Several threads may use it.

    The context is the encryption context of KMS: a data key that was wrapped for one place unwraps for no other, and a
    key policy can require it.
    """

    def __init__(
        self,
        arn: str,
        *,
        endpoint_url: str | None,
        timeout_secs: float = _TIMEOUT_SECS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``endpoint_url`` None: AWS's endpoint of the key's region. ``clock``: in seconds. No call is made yet."""
        self._arn = arn
        self._endpoint_url = endpoint_url
        self._timeout_secs = timeout_secs
        self._clock = clock
        self._client_lock = threading.Lock()
        self._kms: Any = None
        self._silent_until = 0.0
        self._unwrapped = lru_cache(_MAX_KEPT)(self._decrypt)

    def __repr__(self) -> str:
        return f"KmsKey({self._arn})"

    def new_data_key(self, context: Mapping[str, str]) -> tuple[bytes, bytes]:
        """A fresh data key, plain and wrapped. Raises `KeyUnavailable`."""
        try:
            plain, given = self._ask("generate_data_key", KeySpec="AES_256", EncryptionContext=context)
        except ClientError as error:
            raise self._refused(error) from error
        wrapped = given.get("CiphertextBlob")
        if not isinstance(wrapped, bytes) or not wrapped:
            raise self._no_answer("the reply has no CiphertextBlob")
        return plain, wrapped

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes | None:
        """The data key; None when it was not wrapped by this key for this context. Raises `KeyUnavailable`."""
        return self._unwrapped(wrapped, tuple(sorted(context.items())))

    def _decrypt(self, wrapped: bytes, context: tuple[tuple[str, str], ...]) -> bytes | None:
        try:
            return self._ask("decrypt", CiphertextBlob=wrapped, EncryptionContext=dict(context))[0]
        except ClientError as error:
            if _code_of(error) in _WRONG_KEY:
                return None
            raise self._refused(error) from error

    def _ask(self, operation: str, **request: Any) -> tuple[bytes, dict[str, Any]]:
        """The data key and the whole reply. Raises ClientError for a refusal, else `KeyUnavailable`."""
        if self._clock() < self._silent_until:
            raise KeyUnavailable(f"KMS could not be asked a moment ago ({self._arn})")
        # Each attempt has two time-outs. A reply that drips in exceeds neither; nor does a provider of keys that hangs.
        deadline_secs = 2 * _ATTEMPTS * self._timeout_secs
        try:
            given = start_daemon_thread(self._call, operation, request).result(deadline_secs)
            plain = given.get("Plaintext")
        except ClientError:
            raise
        except TimeoutError as error:
            raise self._no_answer(f"no whole answer within {deadline_secs:.0f} s") from error
        except Exception as error:
            # The chain of credentials, the network and a proxy's reply make the library raise almost anything.
            raise self._no_answer(f"{type(error).__name__}: {error}") from error
        if not isinstance(plain, bytes) or len(plain) != _KEY_BYTES:
            raise self._no_answer(f"the reply has no data key of {_KEY_BYTES} bytes")
        return plain, given

    def _call(self, operation: str, request: Mapping[str, Any]) -> Any:
        return getattr(self._client(), operation)(KeyId=self._arn, **request)

    def _no_answer(self, problem: str) -> KeyUnavailable:
        self._start_again()
        return KeyUnavailable(f"KMS cannot be asked ({self._arn}): {safe_message(problem)}")

    def _start_again(self) -> None:
        """Use another client after a pause: it looks for our credentials again. A client keeps those that it found."""
        self._silent_until = self._clock() + _PAUSE_SECS
        self._kms = None

    def _client(self) -> Any:
        with self._client_lock:
            if self._kms is None:
                config = Config(
                    connect_timeout=self._timeout_secs,
                    read_timeout=self._timeout_secs,
                    retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                    max_pool_connections=_CONNECTIONS,
                )
                self._kms = botocore.session.get_session().create_client(
                    "kms", region_name=Arn.of(self._arn).region, endpoint_url=self._endpoint_url, config=config
                )
                self._kms.meta.events.register("before-parse.kms", _decompress)
            return self._kms

    def _refused(self, error: ClientError) -> KeyUnavailable:
        message, code = str(error.response.get("Error", {}).get("Message") or ""), _code_of(error)
        if is_our_fault(code):
            self._start_again()
        return KeyUnavailable(f"KMS answers {code} ({self._arn}): {safe_message(message)}")


def _code_of(error: ClientError) -> str:
    return safe_message(str(error.response.get("Error", {}).get("Code") or "an error"))


def _decompress(response_dict: dict[str, Any], **_: Any) -> None:
    """A proxy may compress in spite of ``Accept-Encoding: identity``, and botocore decompresses nothing."""
    coding = response_dict["headers"].get("content-encoding")
    if coding is not None:
        response_dict["body"] = decompressed(response_dict["body"], coding)
