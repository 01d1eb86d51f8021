"""Lets people and programs in: HTTP, commands over the bus, and the agents' requests."""
