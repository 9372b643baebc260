"""The destinations there are: documents read, checked and looked up by customer.

The room's rule: a document is either a valid `Destination` or a refusal that names file and field; one bad document
never stops the others; no value of a document is quoted unless it is known to be harmless, and a secret never is.
"""
