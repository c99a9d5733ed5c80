"""Benchmarks of bayesmixed against its peers: ``python -m benchmarks``."""
