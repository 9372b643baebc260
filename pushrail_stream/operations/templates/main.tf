# For the account @account, in the region @region, with credentials of that account:
#   terraform init
#   AWS_REGION=@region terraform apply
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

resource "aws_cloudwatch_event_bus" "pushrail" {
  name = @bus
}

resource "aws_iam_role" "writer" {
  name = @role
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = @principal }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "sts:ExternalId" = @external_id } }
    }]
  })
}

resource "aws_iam_role_policy" "put_events" {
  name = "PutEvents"
  role = aws_iam_role.writer.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = [@actions]
      Resource = aws_cloudwatch_event_bus.pushrail.arn
    }]
  })
}

output "bus_arn" {
  value = aws_cloudwatch_event_bus.pushrail.arn
}

output "role_arn" {
  value = aws_iam_role.writer.arn
}
