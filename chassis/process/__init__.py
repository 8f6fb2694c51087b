"""How a process begins and ends."""
