"""The mechanisms that a service stands on. They know no resource."""
