"""For producers: build and check canonical events, and send them with any Kafka client. The rules are `core.event`'s.

    from pushrail_stream.events import CanonicalEvent

    event = CanonicalEvent(
        event_type="order.completed", occurred_at=datetime.now(UTC), source="billing-service",
        customer_external_id="acct_8K2zRq", idempotency_key="order_38a91f-completed", payload={"orderId": "ord_38a91f"},
    )
    producer.produce("pushrail.events", key=event.key, value=event.value, headers=event.headers)  # confluent-kafka

The room imports no Kafka client and no library but the JSON parser of the core.
"""

from pushrail_stream.events.canonical import CanonicalEvent, InvalidEvent, Problem, problems

__all__ = ["CanonicalEvent", "InvalidEvent", "Problem", "problems"]
