"""Asks the router for a mapping of each network's WireGuard port, so that others can send to it unasked."""
