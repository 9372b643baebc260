"""Mutants of the adapters: Kafka, EventBridge, the registry and the observers."""

from __future__ import annotations

from typing import Final

from tests.simulation.mutants.mutant import Change, Mutant, mutant

KAFKA: Final = (
    mutant(
        "stop without draining",
        "kafka.consumer:KafkaConsumer._drain",
        "deadline_secs=self._drain_secs",
        "deadline_secs=0.0",
        needs=["roll_fleet", "scale_fleet", "aws.late"],
    ),
    mutant(
        "give partitions back without a last commit",
        "kafka.consumer:KafkaConsumer._on_revoke",
        "error = self._commits.commit_sync(consumer, commits)",
        "error = None",
        needs=["scale_fleet", "scale_fleet", "produce_events?count=150&secs=60"],
    ),
    mutant(
        "leave the group without a last commit",
        "kafka.consumer:KafkaConsumer._give_back_all",
        "while (error := self._commits.commit_sync(consumer, self._last, deadline)) is not None:",
        "while False:",
        needs=["roll_fleet", "scale_fleet"],
    ),
    Mutant(  # a client that reads nothing is replaced after a minute, which would mend it
        "keep a partition paused across a rebalance",
        (
            Change(
                "kafka.consumer:KafkaConsumer._release",
                "consumer.resume([TopicPartition(*p) for p in self._paused & gone])",
                "pass",
            ),
            Change("kafka.met_topics:MetTopics.note_unread", "not self._failed.issuperset(partitions)", "False"),
        ),
        needs=(
            'settings?topics.retry={"pushrail.retry.30s":30}&delivery.hold_secs=2',
            "trouble_of_one_account?share=1.0&kind=call:ServiceUnavailable&secs=100",
            "scale_fleet?count=1",
            "scale_fleet?count=2",
            "scale_fleet?count=1",
            "scale_fleet?count=2",
        ),
    ),
    mutant(
        "never seek after incremental_assign",
        "kafka.consumer:KafkaConsumer._begin",
        "if start.offset >= 0 and start.leader_epoch is not None:",
        "if False:",
        needs=["replace_newest_records"],
    ),
    mutant(
        "ignore the leader epoch in commits",
        "kafka.commits:Commits._with_epoch",
        "else TopicPartition(*plain, epoch)",
        "else TopicPartition(*plain)",
        needs=["replace_newest_records"],
    ),
    mutant(
        "commit what may be a deleted topic's offsets as those of the new one",
        "kafka.met_topics:MetTopics.honest",
        "commit.of_no_topic() if p in self._doubtful else commit",
        "commit",
        needs=[
            "produce_events?at=5&count=40&secs=5&transactions=false",
            "lag_metadata?at=20&secs=29",
            "recreate_topic?at=25&topic=pushrail.events&secs=0.1",
            "kill_worker?at=44.5&back_secs=25&worker=0",
            "kill_worker?at=44.5&back_secs=25&worker=0",
            "kill_worker?at=44.5&back_secs=25&worker=0",
            "produce_events?at=50&count=250&secs=5&transactions=false",
        ],
    ),
    mutant(
        "keep a client that reads nothing and reports no error",
        "kafka.met_topics:MetTopics.note_unread",
        "not self._failed.issuperset(partitions)",
        "False",
        # The fleet begins again just before the last broker hears of the new topic. Elections have raised all epochs.
        needs=[
            "settings?kafka.group_protocol=classic&kafka.group_instance_id=null",
            *(f"elect_leader?at=15&topic=pushrail.events&partition={number}&leader=2" for number in range(8)),
            *(f"elect_leader?at=16&topic=pushrail.events&partition={number}&leader=3" for number in range(8)),
            "lag_metadata?at=40&secs=7.5",
            "recreate_topic?at=45&topic=pushrail.events&secs=0.1",
            "reset_offsets?at=46&target=earliest",
            "produce_events?at=80&count=100&secs=20&transactions=false",
        ],
    ),
    mutant(
        "never commit while running",
        "kafka.consumer:KafkaConsumer._commit",
        "if commits:",
        "if False:",
    ),
    mutant(
        "read records of aborted transactions",
        "kafka.client_properties:_client",
        "        **owned,\n",
        "        **owned,\n"
        '        **({"isolation.level": "read_uncommitted"} if "isolation.level" in owned else {}),\n',
        needs=["produce_events?transactions=true&count=60"],
    ),
    mutant(
        "ignore the error in a delivery report",
        "kafka.producer:KafkaPublisher._write",
        "failure = None if error is None else self._failure(topic, error)",
        "failure = None",
        needs=[
            "produce_poison",
            "deny_by_policy?secs=100",
            "withdraw_right?topic=pushrail.dlq&operation=Write&secs=60",
        ],
    ),
    mutant(
        "ignore tombstones",
        "kafka.documents:TopicDocuments._read",
        "if message.error() is None]",
        "if message.error() is None and message.value() is not None]",
        needs=["delete_destination"],
    ),
    mutant(
        "ignore a recreated destinations topic",
        "kafka.documents:TopicDocuments._check_topic",
        "if self._watch.is_due() and self._watch.was_recreated():",
        "if False:",
        needs=[
            "settings?registry.topic=true",
            "recreate_topic?topic=pushrail.destinations&secs=1",
            "edit_destination",
            "edit_destination",
        ],
    ),
    mutant(
        "write the copies of a replay without its marks",
        "kafka.replay_journal:ReplayJournal.write",
        "self._produce(self._topic, name.encode(), value, ())",
        "pass",
        needs=["replay_letters", "deny_by_policy"],
    ),
    mutant(
        "end a scan one record early",
        "kafka.scan:Scan._read",
        "record.offset < self._ends[record.partition]",
        "record.offset < self._ends[record.partition] - 1",
        needs=["replay_letters", "check"],
    ),
)

EVENTBRIDGE: Final = (
    mutant(
        "take HTTP 200 for success without event ids",
        "eventbridge.error_codes:_judge_entry",
        "if result.event_id:\n            return Delivered(result.event_id)",
        'if True:\n            return Delivered(result.event_id or "unnamed")',
        needs=["aws.garbled_after", "aws.garbled_before"],
    ),
    mutant(
        "take missing results for deliveries",
        "eventbridge.error_codes:judge",
        "[unknown] * (entries - len(known))",
        '[Delivered("unnamed")] * (entries - len(known))',
        needs=["aws.garbled_after", "aws.garbled_before"],
    ),
    mutant(
        "match results to entries in the wrong order",
        "eventbridge.endpoint:read_results",
        "for result in results",
        "for result in reversed(results)",
        needs=["aws.entry:InternalFailure"],
    ),
    mutant(
        "name the entries of each call anew for a bus of eventbridgev2",
        "eventbridge.entry_v2:render",
        "deduplication_id(event.idempotency_key)",
        "f\"{deduplication_id(event.idempotency_key)[:90]} {id(object())} {__import__('time').time_ns()}\"",
        needs=["aws.answer_lost", "aws.reset_after"],
    ),
    mutant(
        "dead-letter what is retryable",
        "eventbridge.error_codes:_judge_call",
        "return Retryable(code, message)",
        "return Blocked(code, message)",
        needs=["aws.call:ServiceUnavailable"],
    ),
    mutant(
        "retry what is rejected until it expires",
        "eventbridge.error_codes:_judge_entry",
        "return Rejected(code, message)",
        "return Retryable(code, message)",
        needs=["aws.entry:MalformedDetail"],
    ),
    mutant(
        "reject a whole batch for one of its entries",
        "eventbridge.error_codes:_judge_call",
        "Split(code, message) if entries > 1 else Rejected(code, message)",
        "Rejected(code, message)",
        needs=["aws.call:ValidationException"],
    ),
    mutant(
        "blame the customer for our own credentials",
        "eventbridge.error_codes:_judge_sign_in",
        "return Retryable(code, message, is_our_fault=True)",
        "return Blocked(code, message)",
        needs=["lose_own_credentials?how=revoke&secs=90", "roll_fleet?pause=1&grace_secs=3"],
    ),
    mutant(
        "blame the customer for a new session that AWS calls expired",
        "eventbridge.error_codes:_judge_credentials",
        "if not assumed_role:",
        'if not assumed_role or (refreshed and _name_of(code) == "ExpiredToken"):',
        needs=[
            "aws.call:AccessDeniedException",
            *(f"skew_aws_clock?at={at}&secs=3600&back_secs=1" for at in range(8, 50, 2)),
        ],
    ),
    mutant(
        "blame the customer for our own clock",
        "eventbridge.error_codes:_our_fault",
        "if name in _CALL_OURS or (name in _CREDENTIALS_REFUSED and message.lower().startswith(_CLOCK)):",
        "if name in _CALL_OURS:",
        needs=["jump_clock?secs=600&back_secs=60"],
    ),
    mutant(
        "blame each customer for our identity that may assume no role",
        "eventbridge.sign_in:SignInService._doubt",
        "if undecided is not None:",
        "if True:",
        needs=["forbid_roles?at=15&secs=90", "roll_fleet?at=16&pause=1&grace_secs=3"],
    ),
    mutant(
        "never renew a refused session",
        "eventbridge.credentials:RoleKeys.renew",
        "self._keys = None\n    self._renewed_at = now",
        "self._renewed_at = now",
        needs=["revoke_sessions", "recreate_role"],
    ),
    mutant(
        "blame the customer for a session that was revoked",
        "eventbridge.error_codes:_judge_call",
        "return Refresh(code, message)",
        "return Blocked(code, message)",
        needs=["revoke_sessions", "recreate_role"],
    ),
    mutant(
        "sign with the first session without end",
        "eventbridge.bus:EventBridge.call",
        "if signer is None or signer.keys is not keys:",
        "if signer is None:",
        needs=["revoke_sessions", "recreate_role"],
    ),
    mutant(
        "keep the credentials of an edited document",
        "eventbridge.bus:EventBridge._access",
        "if access is None or (access.destination is not destination and access.destination.bus != destination.bus):",
        "if access is None:",
        needs=["seal_new_secret", "seal_new_secret", "seal_new_secret"],
    ),
    mutant(
        "let a garbled answer of STS raise",
        "eventbridge.sts:StsEndpoint._parse",
        "except Exception as error:",
        "except KeyError as error:",
        needs=["aws.garbled_before"],
    ),
    mutant(
        "tell a secret in the message of a refused sign-in",
        "eventbridge.sts:StsEndpoint._ask",
        "return _refusal(action, reply, parsed)",
        "refusal = _refusal(action, reply, parsed)\n"
        '        return refusal._replace(message=f"{refusal.message} ({keys.secret.reveal()})")',
        needs=["lose_own_credentials?how=revoke&secs=90", "roll_fleet?pause=1&grace_secs=3"],
    ),
    mutant(
        "send an entry with another customer's name",
        "eventbridge.entry:render",
        "[event.customer_external_id, event.idempotency_key]",
        "[event.idempotency_key, event.customer_external_id]",
    ),
)

REGISTRY: Final = (
    mutant(
        "never read a rotated keyring",
        "registry.keyring:Keyring.unseal",
        "if secret is None and self._reload():",
        "if False:",
        needs=["rotate_sealing_keys", "seal_new_secret"],
    ),
    mutant(
        "drop a destination for a bad edit of its document",
        "registry.catalog:Catalog._refuse",
        'self._refused[change.name] = stand_in(change.content or b"")',
        'self._refused[change.name] = stand_in(change.content or b"")\n    self._drop(change.name)',
        needs=["garble_document"],
    ),
    mutant(
        "keep the route to a deleted destination",
        "registry.directory:DestinationIndex.change",
        "self._open(routes, _customer(before)).pop(destination_id, None)",
        "self._open(routes, _customer(before))",
        needs=["delete_destination"],
    ),
    mutant(
        "pass over every change of documents that comes with a sealed one",
        "registry.watcher:RegistryWatcher._follow",
        "self._sealed += sealed",
        "pass",
        needs=["seal_new_secret", "edit_destination"],
    ),
)

OBSERVE: Final = (
    mutant(
        "write an attempt record that says delivered for a throttled entry",
        "observe.attempts:_failed_part",
        '{"status": "retrying", "reason": reason,',
        '{"status": "delivered" if reason == "throttled" else "retrying", "reason": reason,',
        needs=["lower_quota"],
    ),
    mutant(
        "write no attempt record for the last entry of a call",
        "observe.attempts:AttemptsLog._attempted",
        "in enumerate(signal.deliveries):",
        "in enumerate(signal.deliveries[:-1] if len(signal.deliveries) > 1 else signal.deliveries):",
    ),
    mutant(
        "write no attempt record for a dead letter without a call",
        "observe.attempts:AttemptsLog.__call__",
        "if not letter.reported:",
        "if letter.reported:",
        needs=["deny_by_policy"],
    ),
)
