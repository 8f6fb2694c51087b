"""The audit trail as it is read: page by page, and line by line."""
