resource "aws_cloudwatch_event_archive" "pushrail" {
  name             = @archive
  event_source_arn = aws_cloudwatch_event_bus.pushrail.arn
  retention_days   = @days
  event_pattern    = jsonencode({ source = [@source] })
}
