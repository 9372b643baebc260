"""The traps that others fell into, each with the test that fails when what guards against it here is taken away.

Whole workers in all of them. What has to be seen from inside, where the moment that matters can be chosen, is told in
tests/pipeline besides.

Calls
  a failure of one entry is treated as final: test_per_entry_failure_treated_as_final
  413 or ValidationException discards the whole batch: test_413_or_validation_exception_discards_the_batch,
    test_an_oversize_event_spoils_the_batch
  a DetailType over 128 characters vanishes: test_detail_type_over_128_is_silently_discarded
  a fixed sleep after every put, one batch at a time: test_fixed_sleep_after_every_put (to the millisecond, in virtual
    time: pipeline/test_dispatcher)

Credentials
  the ExternalId is never sent: test_external_id_never_sent
  empty keys fall through to the process's own: test_empty_keys_fall_through_to_our_own
  a client is cached by configuration, not by credentials: test_client_cached_by_config_not_by_credentials
  a sealed secret opens where it was copied to: test_sealed_credentials_of_another_customer_do_not_open
  a worker without the newest sealing key gives events up: test_a_missing_sealing_key_is_nobodys_dead_letter
  our own credentials fail and customers pay: test_our_own_credentials_that_cannot_be_had_are_nobodys_dead_letter
  a revoked session is used to its end: test_sessions_that_the_customer_revokes

Destinations
  a permanent error kills the task until somebody restarts it: test_a_permanent_error_kills_the_task
  a credential error aborts events: test_credential_error_aborts_events
  refusals of the breaker burn the retry budget: test_breaker_refusals_burn_the_retry_budget
  events vanish while their destination is disabled: test_events_vanish_while_disabled
  a deleted destination in the retry queue fails for ever: test_deleted_destination_in_the_retry_queue_fails_for_ever

Kafka
  a late acknowledgement after a revocation moves the commit: pipeline/test_assignment (the moment has to be chosen)
  a commit passes an undelivered record: test_committing_past_an_undelivered_record
  a worker is killed in the middle of its work: test_kill_in_the_middle
  a dead letter cannot be written, so it is dropped: test_dlq_write_fails_and_the_message_is_dropped
  an outage of the attempts log stalls deliveries: test_attempt_log_outage_stalls_delivery
  one poison record blocks its partition: test_poison_record_blocks_the_partition,
    test_a_record_that_fits_only_compressed_blocks_the_partition

Accounting
  a metric counts twice, or not at all: test_duplicate_metric_identity (every worker of `support.workers.running` has to
    balance besides)
  a limit is accepted and not enforced: test_limit_accepted_but_not_enforced, test_limits_that_bound_a_call_bound_it,
    test_calls_under_way_are_bounded (calls a second: pipeline/test_dispatcher; what a worker holds: e2e/test_delivery)
"""
