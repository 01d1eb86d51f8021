"""Speaks BGP for the machine: through BIRD, in every network that it is in."""
