"""Sessions: a user's log-ins that live, to be looked at and ended one by one."""
