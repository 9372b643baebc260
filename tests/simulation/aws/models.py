"""AWS's library keeps in this process what it reads from its files: a simulated worker starts within milliseconds.

The library reads its models of services, endpoints and rules (2 MB of JSON) and the certificates of authorities for
each client. For each session it translates the names of all events, and looks at the signatures of all handlers. A real
worker does so once; a story starts many workers in one process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final
from unittest import mock

import botocore.hooks
import botocore.loaders
from botocore.httpsession import create_urllib3_context

_load: Final = cache(botocore.loaders.JSONFileLoader().load_file)
_exists: Final = cache(botocore.loaders.JSONFileLoader().exists)


class _Files:
    """In the place of botocore's loader of files."""

    def exists(self, file_path: str) -> bool:
        """Whether there is such a file."""
        return bool(_exists(file_path))

    def load_file(self, file_path: str) -> Any:
        """The content of a file."""
        return _load(file_path)


_list_services: Final = botocore.loaders.Loader.list_available_services
_services: Final[dict[tuple[str, ...], list[str]]] = {}


def _list_services_once(loader: Any, type_name: str) -> list[str]:
    """The services with a model of this type, in the places where this loader looks."""
    key = (type_name, *loader.search_paths)
    if key not in _services:
        _services[key] = _list_services(loader, type_name)
    return _services[key]


_alias: Final = botocore.hooks.EventAliaser._alias_event_name  # type: ignore[attr-defined]
_aliases: Final[dict[str, str]] = {}
_accepts_kwargs: Final = cache(botocore.hooks.accepts_kwargs)


def _alias_once(aliaser: Any, event_name: str) -> str:
    """The present name of an event, from the library's own table of names."""
    if aliaser._event_aliases is not botocore.hooks.EVENT_ALIASES:
        return str(_alias(aliaser, event_name))
    if event_name not in _aliases:
        _aliases[event_name] = _alias(aliaser, event_name)
    return _aliases[event_name]


@cache
def _context() -> Any:
    return create_urllib3_context()


def _no_certificates(_session: object) -> Any:
    """Connections of the simulation have no TLS."""
    return _context()


@contextmanager
def kept_models() -> Iterator[None]:
    """Let AWS's library keep its files until the block ends."""
    with (
        mock.patch("botocore.loaders.JSONFileLoader", _Files),
        mock.patch("botocore.loaders.Loader.FILE_LOADER_CLASS", _Files),
        mock.patch("botocore.loaders.Loader.list_available_services", _list_services_once),
        mock.patch("botocore.hooks.EventAliaser._alias_event_name", _alias_once),
        mock.patch("botocore.hooks.accepts_kwargs", _accepts_kwargs),
        mock.patch("aiobotocore.httpsession.AIOHTTPSession._build_verify_context", _no_certificates),
    ):
        yield
