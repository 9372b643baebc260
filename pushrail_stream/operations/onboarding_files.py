"""The files for a new customer: templates, policies, rules for the AWS CLI, examples and a page that explains them."""

from __future__ import annotations

import json
from typing import Any, Final

from pushrail_stream.operations.onboarding_templates import Onboarding

PAGE: Final = "README.md"
"""The file to read first."""


def customer_files(onboarding: Onboarding) -> dict[str, str]:
    """The files for the customer, by path below one folder."""
    if onboarding.v2_bus is not None:
        return _files_beside_v2_bus(onboarding)
    policies = {
        "trust": onboarding.trust_policy(),
        "permissions": onboarding.permissions_policy(),
        "log": onboarding.log_policy(),
        "failures": onboarding.failures_policy(),
    }
    requests = {f"put-rule-{rule['Name']}": rule for rule in put_rules(onboarding)}
    documents = {"policies": policies, **requests, "put-targets": put_targets(onboarding)}
    return {
        PAGE: customer_page(onboarding),
        "cloudformation.yaml": onboarding.cloudformation(),
        "main.tf": onboarding.terraform(),
        **{f"{name}.json": _json(content) for name, content in documents.items()},
        "example-event.json": _json(example_event(onboarding)),
        **{f"examples/{name}": content for name, content in onboarding.examples().items()},
    }


def _files_beside_v2_bus(onboarding: Onboarding) -> dict[str, str]:
    """Such a bus has subscribers in the place of rules. CloudFormation alone is known to make them."""
    policies = {"trust": onboarding.trust_policy(), "permissions": onboarding.permissions_policy()}
    return {
        PAGE: customer_page(onboarding),
        "cloudformation.yaml": onboarding.cloudformation(),
        "policies.json": _json(policies),
        "example-event.json": _json(example_event(onboarding)),
    }


def customer_page(onboarding: Onboarding) -> str:
    """The page for the customer, in Markdown."""
    rules = "\n".join(json.dumps(pattern) for pattern in onboarding.rules().values())
    return onboarding.page({"event": _json(example_event(onboarding)).rstrip(), "rules": rules})


def put_rules(onboarding: Onboarding) -> list[dict[str, Any]]:
    """The example rules, each as `aws events put-rule --cli-input-json` takes it."""
    return [
        {
            "Name": title.replace(" ", "-"),
            "EventBusName": onboarding.bus,
            "Description": f"Events of {onboarding.vendor} {title}",
            # EventBridge limits the characters of a pattern: none is escaped without need.
            "EventPattern": json.dumps(pattern, ensure_ascii=False),
            "State": "ENABLED",
        }
        for title, pattern in onboarding.rules().items()
    ]


def put_targets(onboarding: Onboarding) -> dict[str, Any]:
    """The log group as the target of the first rule, as `aws events put-targets --cli-input-json` takes it."""
    target = {
        "Id": "log",
        "Arn": onboarding.log_group_arn,
        "DeadLetterConfig": {"Arn": onboarding.failures_arn},
    }
    return {"Rule": put_rules(onboarding)[0]["Name"], "EventBusName": onboarding.bus, "Targets": [target]}


def example_event(onboarding: Onboarding) -> dict[str, Any]:
    """An event as the targets of the customer's rules get it."""
    key = "order_38a91f-completed"
    detail = {
        "eventType": "order.completed",
        "occurredAt": "2026-05-26T14:21:08.493Z",
        "source": "billing-service",
        "customerExternalId": onboarding.customer,
        "idempotencyKey": key,
        "payload": {"orderId": "ord_38a91f", "amount": 12900, "currency": "USD"},
    }
    return {
        "version": "0",
        "id": "e3e70682-c209-4cac-8000-00000000000b",
        "detail-type": detail["eventType"],
        "source": onboarding.source,
        "account": onboarding.account,
        "time": "2026-05-26T14:21:08Z",
        "region": onboarding.region,
        "resources": [onboarding.customer, key],
        "detail": detail,
    }


def _json(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"
