"""Our own identity: a user of the vendor's account, whose key stands in a file that every worker reads."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Final

from tests.simulation.aws.accounts import Accounts
from tests.simulation.aws.policies import ASSUME_ROLE, allow

_BASE32: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_SECRET_BITS: Final = 160


class OurIdentity:
    """The user, its present key, and the file with it. AWS and the file change apart from each other."""

    def __init__(self, accounts: Accounts, dice: Random, arn: str, path: Path) -> None:
        self.arn = arn
        self.access_key = ""
        self.secret = ""
        self._accounts = accounts
        self._dice = dice
        self._path = path
        self.create_key()
        self.write()

    @property
    def environment(self) -> dict[str, str]:
        """The environment by which AWS's library finds the key, and nothing of this machine."""
        return {
            "AWS_SHARED_CREDENTIALS_FILE": str(self._path),
            "AWS_CONFIG_FILE": "no-such-file",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def create_key(self, expires_at: float | None = None) -> None:
        """Make a new key. The file does not have it yet, and the old key still works. ``expires_at``: epoch seconds."""
        self.access_key = "AKIA" + "".join(self._dice.choices(_BASE32, k=16))
        self.secret = f"{self._dice.getrandbits(_SECRET_BITS):040x}"
        self._accounts.create_our_key(self.arn, self.access_key, self.secret, expires_at)

    def write(self) -> None:
        """Write the present key to the file."""
        lines = ("[default]", f"aws_access_key_id = {self.access_key}", f"aws_secret_access_key = {self.secret}", "")
        self._path.write_text("\n".join(lines))

    def garble_file(self) -> None:
        """Leave the file with half of a key, as a write that was cut off does."""
        self._path.write_text("[default\naws_access_key_id")

    def remove_file(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)

    def expire(self, at: float) -> None:
        """Let the present key end at ``at``, in epoch seconds."""
        self._accounts.expire_key(self.access_key, at)

    def revoke(self) -> None:
        """Delete the present key at AWS. The file keeps it."""
        self._accounts.delete_key(self.access_key)

    def forbid_roles(self) -> None:
        """Forbid the user to assume any role."""
        self._accounts.create_user(self.arn, [allow("kms:*")])

    def allow_roles(self) -> None:
        """Allow the user to assume every role and to use every KMS key."""
        self._accounts.create_user(self.arn, [allow((ASSUME_ROLE, "kms:*"))])
