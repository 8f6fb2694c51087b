"""Names and deadlines, for every call that leaves the process."""
