"""Traps that other products fell into, each with the test that fails without the guard against it.

All of them run whole workers. Tests in tests/pipeline show the same from inside, at chosen moments.

Calls
  a failure of one entry is treated as final: test_a_temporary_entry_error_is_repeated
  413 or ValidationException discards the whole batch: test_a_refused_call_rejects_only_one_entry,
    test_an_oversized_event_leaves_its_batch
  a DetailType over 128 characters vanishes: test_a_detail_type_over_128_is_refused
  a fixed sleep after every put, one batch at a time: test_no_pause_follows_a_call (to the millisecond, in virtual
    time: pipeline/test_dispatcher)

Credentials
  the ExternalId is never sent: test_the_external_id_is_always_sent
  empty keys fall through to the process's own: test_empty_keys_never_mean_our_own
  a client is cached by configuration, not by credentials: test_changed_credentials_are_used
  a sealed secret opens where it was copied to: test_sealed_secrets_open_for_their_owner_only
  a worker without the newest sealing key gives events up: test_a_missing_sealing_key_kills_nothing
  our own credentials fail and customers pay: test_missing_own_credentials_kill_nothing
  our own credentials fail and nobody is told: test_missing_own_credentials_are_told_without_an_event
  a revoked session is used to its end: test_a_revoked_session_is_replaced

Destinations
  a permanent error kills the task until somebody restarts it: test_a_permanent_error_stops_no_worker
  a credential error aborts events: test_bad_credentials_abort_no_events
  refusals of the breaker burn the retry budget: test_a_suspension_spends_no_attempts
  events vanish while their destination is disabled: test_events_of_a_disabled_one_are_skipped
  a deleted destination in the retry queue fails for ever: test_a_deleted_destination_ends_its_retries
  a repeated call has other bytes: test_cloud_events_are_equal_each_time
  events that a filter leaves out vanish, or a retried one is filtered again: test_a_filter_chooses_events_by_content

Kafka
  a late acknowledgement after a revocation moves the commit: pipeline/test_assignment (the moment has to be chosen)
  a commit passes an undelivered record: test_no_commit_passes_an_open_record
  a worker is killed in the middle of its work: test_a_kill_loses_no_event
  a dead letter cannot be written, so it is dropped: test_a_failed_dlq_write_drops_nothing
  an outage of the attempts log stalls deliveries: test_a_lost_attempt_log_stalls_nothing
  one poison record blocks its partition: test_a_poison_record_blocks_nothing,
    test_a_large_compressed_record_blocks_nothing

Accounting
  a metric counts twice, or not at all: test_every_delivery_is_in_one_column (every worker of `support.workers.running`
    has to balance besides)
  a limit is accepted and not enforced: test_accepted_limits_are_enforced, test_call_limits_bound_a_call,
    test_calls_in_flight_are_bounded (calls a second: pipeline/test_dispatcher; what a worker holds: e2e/test_delivery)
"""
