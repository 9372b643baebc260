variable "vendor_account_id" {
  type        = string
  description = @parameter
}
