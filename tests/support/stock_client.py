"""The stock client's session, shared: a new one costs 90 ms of model loading."""

from __future__ import annotations

from functools import cache

from aiobotocore.session import AioSession, get_session


@cache
def stock_session() -> AioSession:
    return get_session()
