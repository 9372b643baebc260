"""Every setting of the product: declared once, frozen, with its unit in its name.

The room's rule: a setting is a field of `model` and nowhere else; what is wrong with one is said in a line that names
it; what is not a setting is refused. The room imports only the core, `errors` and `files`.
"""

from __future__ import annotations

from pushrail_stream.errors import UsageError
from pushrail_stream.settings.client import ALIASES, MASK, ClientProperties
from pushrail_stream.settings.model import (
    DeliverySettings,
    EventBridgeSettings,
    FloodGuardSettings,
    HttpSettings,
    IngestSettings,
    KafkaSettings,
    LimitsSettings,
    RegistrySettings,
    SecretsSettings,
    Settings,
    StsSettings,
    TopicsSettings,
)
from pushrail_stream.settings.source import (
    CONFIG_VARIABLE,
    DEFAULT_PATH,
    LoadedSettings,
    load_settings,
    read_settings,
)

__all__ = [
    "ALIASES",
    "CONFIG_VARIABLE",
    "DEFAULT_PATH",
    "MASK",
    "ClientProperties",
    "DeliverySettings",
    "EventBridgeSettings",
    "FloodGuardSettings",
    "HttpSettings",
    "IngestSettings",
    "KafkaSettings",
    "LimitsSettings",
    "LoadedSettings",
    "RegistrySettings",
    "SecretsSettings",
    "Settings",
    "StsSettings",
    "TopicsSettings",
    "UsageError",
    "load_settings",
    "read_settings",
]
