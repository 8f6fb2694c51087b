"""The database: connections to it, and the tables that belong to no resource."""
