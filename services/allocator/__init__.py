"""Decides: turns commands into events, and owns the allocation of addresses."""
