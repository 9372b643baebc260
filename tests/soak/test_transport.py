"""A short soak of the connections: it tells what is left, and that it was too short to tell about memory."""

from __future__ import annotations

from tests.soak.transport import soak_transport


def test_a_round_of_troubles_leaves_nothing() -> None:
    result = soak_transport(0.0)
    assert result["outcomes"]["reply"] > 500
    assert {"SocketTimeoutError", "ClientPayloadError"} <= set(result["outcomes"])
    assert result["failures_in_callbacks"] == []
    assert (result["left_open"], result["most_sockets_left"], result["most_tasks_left"]) == (0, 0, 0)
    assert (result["bytes_per_ended_connection"], result["ok"]) == (None, False)
