-- The delivery log in ClickHouse: for several people, weeks of history, and more attempts than one SQLite file can serve.
--
--   clickhouse-client --multiquery < attempts.sql
--
-- Replace localhost:9092 by your brokers, and set kafka_security_protocol and its neighbours where the brokers need it.
-- Every column has the name of its field in the records of pushrail.attempts (pushrail_stream/CONTRACTS.md).

CREATE TABLE IF NOT EXISTS attempts_queue
(
    raw String
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = 'localhost:9092',
    kafka_topic_list = 'pushrail.attempts',
    kafka_group_name = 'pushrail-clickhouse',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_max_block_size = 65536;

CREATE TABLE IF NOT EXISTS attempts
(
    at DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    attemptId String,
    durationMs Float64,
    vendor LowCardinality(String),
    customerExternalId String,
    destinationId String,
    eventType LowCardinality(String),
    idempotencyKey String,
    correlationId String,
    trigger LowCardinality(String),
    attempt UInt32,
    status LowCardinality(String),
    reason LowCardinality(String),
    code LowCardinality(String),
    message String,
    httpStatus UInt16,
    requestId String,
    eventBridgeEventId String,
    batchSize UInt8,
    batchIndex UInt8,
    entryBytes UInt32,
    busArn LowCardinality(String),
    originTopic LowCardinality(String),
    originTopicId LowCardinality(String),
    originPartition UInt32,
    originOffset UInt64,
    nextAttemptAt Nullable(DateTime64(3, 'UTC')),
    replayId String,
    -- The record's position in the log: a record that Kafka delivers again after a restart replaces its first copy.
    logPartition UInt32,
    logOffset UInt64,
    INDEX by_key idempotencyKey TYPE bloom_filter GRANULARITY 4,
    INDEX by_correlation correlationId TYPE bloom_filter GRANULARITY 4,
    INDEX by_origin originOffset TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(at)
ORDER BY (destinationId, at, logPartition, logOffset)
TTL toDateTime(at) + INTERVAL 90 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS attempts_reader TO attempts AS
SELECT
    parseDateTime64BestEffort(JSONExtractString(raw, 'at'), 3, 'UTC') AS at,
    JSONExtractString(raw, 'attemptId') AS attemptId,
    JSONExtractFloat(raw, 'durationMs') AS durationMs,
    JSONExtractString(raw, 'vendor') AS vendor,
    JSONExtractString(raw, 'customerExternalId') AS customerExternalId,
    JSONExtractString(raw, 'destinationId') AS destinationId,
    JSONExtractString(raw, 'eventType') AS eventType,
    JSONExtractString(raw, 'idempotencyKey') AS idempotencyKey,
    JSONExtractString(raw, 'correlationId') AS correlationId,
    JSONExtractString(raw, 'trigger') AS trigger,
    JSONExtractUInt(raw, 'attempt') AS attempt,
    JSONExtractString(raw, 'status') AS status,
    JSONExtractString(raw, 'reason') AS reason,
    JSONExtractString(raw, 'code') AS code,
    JSONExtractString(raw, 'message') AS message,
    JSONExtractUInt(raw, 'httpStatus') AS httpStatus,
    JSONExtractString(raw, 'requestId') AS requestId,
    JSONExtractString(raw, 'eventBridgeEventId') AS eventBridgeEventId,
    JSONExtractUInt(raw, 'batchSize') AS batchSize,
    JSONExtractUInt(raw, 'batchIndex') AS batchIndex,
    JSONExtractUInt(raw, 'entryBytes') AS entryBytes,
    JSONExtractString(raw, 'busArn') AS busArn,
    JSONExtractString(raw, 'origin', 'topic') AS originTopic,
    JSONExtractString(raw, 'origin', 'topicId') AS originTopicId,
    JSONExtractUInt(raw, 'origin', 'partition') AS originPartition,
    JSONExtractUInt(raw, 'origin', 'offset') AS originOffset,
    parseDateTime64BestEffortOrNull(JSONExtractString(raw, 'nextAttemptAt'), 3, 'UTC') AS nextAttemptAt,
    JSONExtractString(raw, 'replayId') AS replayId,
    _partition AS logPartition,
    _offset AS logOffset
FROM attempts_queue
WHERE isValidJSON(raw) AND parseDateTime64BestEffortOrNull(JSONExtractString(raw, 'at'), 3, 'UTC') IS NOT NULL;
