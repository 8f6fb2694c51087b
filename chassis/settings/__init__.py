"""Settings: texts of variables become values of a configuration, and values are shown."""
