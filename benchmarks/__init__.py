"""Measures the service beside its peers; start with README.md."""
