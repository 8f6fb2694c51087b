"""Jobs: work on many users at once, with progress, in steps that survive their worker."""
