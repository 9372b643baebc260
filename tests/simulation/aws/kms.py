"""KMS: GenerateDataKey and Decrypt of symmetric keys, with the encryption context."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from tests.simulation.aws.accounts import Credential
from tests.simulation.aws.answers import Answer, json_answer, json_error
from tests.simulation.aws.permissions import denial
from tests.simulation.aws.records import Blame, Call
from tests.simulation.aws.state import State

_KEY_BYTES: Final = 32
_BLOB_BYTES: Final = 48


@dataclass(slots=True)
class MasterKey:
    """A KMS key."""

    arn: str
    enabled: bool = True


class _DataKey(NamedTuple):
    plain: bytes
    master: str
    context: tuple[tuple[str, str], ...]


class KmsService:
    """Carries calls out on the state of AWS. A refusal is our own fault, since the keys are ours."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.keys: dict[str, MasterKey] = {}
        self._data_keys: dict[bytes, _DataKey] = {}

    def create_key(self, arn: str) -> MasterKey:
        """Make a key."""
        key = self.keys[arn] = MasterKey(arn)
        return key

    def handle(self, body: bytes, call: Call, who: Credential) -> Answer:
        """Answer GenerateDataKey or Decrypt."""
        if not self._state.quotas.take(who.account, call.region, call.api, call.at):
            return self._refuse(call, "aws", "ThrottlingException", "Rate exceeded")
        request = _fields(body)
        arn = str(request.get("KeyId"))
        denied = denial(self._state.accounts, who, f"kms:{call.api}", arn)
        key = self.keys.get(arn)
        if denied is not None:
            return self._refuse(call, "ours", "AccessDeniedException", denied.message)
        if key is None:
            return self._refuse(call, "ours", "NotFoundException", f"Key '{arn}' does not exist")
        if not key.enabled:
            return self._refuse(call, "ours", "DisabledException", f"{arn} is disabled.")
        context = tuple(sorted((request.get("EncryptionContext") or {}).items()))
        return (
            self._generate(arn, context)
            if call.api == "GenerateDataKey"
            else self._decrypt(arn, context, request, call)
        )

    def _generate(self, arn: str, context: tuple[tuple[str, str], ...]) -> Answer:
        plain, blob = self._state.dice.randbytes(_KEY_BYTES), self._state.dice.randbytes(_BLOB_BYTES)
        self._data_keys[blob] = _DataKey(plain, arn, context)
        document = {"KeyId": arn, "Plaintext": b64encode(plain).decode(), "CiphertextBlob": b64encode(blob).decode()}
        return json_answer(document, self._state.new_id())

    def _decrypt(self, arn: str, context: tuple[tuple[str, str], ...], request: dict[str, Any], call: Call) -> Answer:
        try:
            known = self._data_keys.get(b64decode(str(request.get("CiphertextBlob")), validate=True))
        except Base64Error:
            known = None
        if known is None or known.context != context:
            return self._refuse(call, "customer", "InvalidCiphertextException", "")
        if known.master != arn:
            return self._refuse(call, "customer", "IncorrectKeyException", "")
        return json_answer({"KeyId": arn, "Plaintext": b64encode(known.plain).decode()}, self._state.new_id())

    def _refuse(self, call: Call, blame: Blame, code: str, message: str) -> Answer:
        call.blame, call.code = blame, code
        return json_error(400, code, message, self._state.new_id())


def _fields(body: bytes) -> dict[str, Any]:
    document = orjson.loads(body)
    if not isinstance(document, dict):
        raise TypeError("botocore sent no object to KMS")
    return document
