"""The traps that others fell into, each with the test that fails when what guards against it here is taken away.

Whole workers wherever a worker can be caught in it. A trap that has no test of its own name is told from inside, where
the moment that matters can be chosen.

========================================================  ==============================================================
trap                                                      test
========================================================  ==============================================================
committing past an undelivered record                     test_kafka, ``test_committing_past_an_undelivered_record``
a worker is killed in the middle of its work              test_kafka, ``test_kill_in_the_middle``
the dead letter cannot be written, so it is dropped       test_kafka, ``test_dlq_write_fails_and_the_message_is_dropped``
an outage of the attempts log stalls deliveries           test_kafka, ``test_attempt_log_outage_stalls_delivery``
one poison record blocks a partition                      test_kafka, ``test_poison_record_blocks_the_partition``
a failure of one entry is treated as final                test_calls, ``test_per_entry_failure_treated_as_final``
413 or ValidationException discards the whole batch       test_calls, ``test_413_or_validation_exception_...``,
                                                          ``test_an_oversize_event_spoils_the_batch``
a DetailType over 128 characters vanishes                 test_calls, ``test_detail_type_over_128_is_silently_discarded``
a fixed sleep after every put, one batch at a time        test_calls, ``test_fixed_sleep_after_every_put``
the ExternalId is never sent                              test_credentials, ``test_external_id_never_sent``
empty keys fall through to the process's own role         test_credentials, ``test_empty_keys_fall_through_to_our_own``
a client cached by configuration, not by credentials      test_credentials, ``test_client_cached_by_config_...``
a metric is counted twice, or never                       test_accounting, ``test_duplicate_metric_identity``;
                                                          every worker of ``e2e.world.running`` has to balance
a limit is accepted and not enforced                      test_accounting, ``test_limit_accepted_but_not_enforced``,
                                                          ``test_limits_that_bound_a_call_bound_it``,
                                                          ``test_calls_under_way_are_bounded``; the rate in
                                                          pipeline/test_batches, what is held in e2e/test_delivery
========================================================  ==============================================================
"""
