"""Settings with topics of their own names."""

from __future__ import annotations

import uuid
from typing import Any, Final

from pushrail_stream.settings.model import Settings

DELAY_SECS: Final = 1_800


ROLES: Final = (
    "events", "retry", "dlq", "attempts", "destinations", "replays", "workers", "control", "cursors", "notices",
    "audit",
)  # fmt: skip


def settings_of_its_own(**sections: Any) -> Settings:
    tag = uuid.uuid4().hex[:8]
    names: dict[str, Any] = {role: f"{tag}.{role}" for role in ROLES if role != "retry"}
    return Settings.model_validate({"topics": names | {"retry": {f"{tag}.retry": DELAY_SECS}}} | sections)
