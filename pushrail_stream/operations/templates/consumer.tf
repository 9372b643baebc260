# Events that EventBridge cannot deliver to a target: for every rule on this bus.
resource "aws_sqs_queue" "failures" {
  name                      = @failures
  message_retention_seconds = 1209600
}

resource "aws_sqs_queue_policy" "failures" {
  queue_url = aws_sqs_queue.failures.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "events.amazonaws.com" }
      Action    = "sqs:SendMessage"
      Resource  = aws_sqs_queue.failures.arn
      Condition = { ArnLike = { "aws:SourceArn" = @rules_arn } }
    }]
  })
}

# The first consumer: every event arrives in a log group. Remove these four resources when your own rules have replaced it.
resource "aws_cloudwatch_log_group" "events" {
  name              = @log_group
  retention_in_days = 14
}

resource "aws_cloudwatch_log_resource_policy" "events" {
  policy_name = @log_policy_name
  policy_document = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = ["events.amazonaws.com", "delivery.logs.amazonaws.com"] }
      Action    = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource  = "${aws_cloudwatch_log_group.events.arn}:*"
    }]
  })
}

resource "aws_cloudwatch_event_rule" "log" {
  name           = "log-events"
  description    = @log_purpose
  event_bus_name = aws_cloudwatch_event_bus.pushrail.name
  event_pattern  = jsonencode({ source = [@source] })
}

resource "aws_cloudwatch_event_target" "log" {
  rule           = aws_cloudwatch_event_rule.log.name
  event_bus_name = aws_cloudwatch_event_bus.pushrail.name
  target_id      = "log"
  arn            = aws_cloudwatch_log_group.events.arn
  dead_letter_config {
    arn = aws_sqs_queue.failures.arn
  }
  depends_on = [aws_cloudwatch_log_resource_policy.events, aws_sqs_queue_policy.failures]
}
