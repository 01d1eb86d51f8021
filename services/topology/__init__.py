"""Derives: turns the log into each network's records, and publishes them."""
