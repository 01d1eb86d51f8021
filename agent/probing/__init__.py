"""Finds out at which address each peer is reached directly, and how well. Pure: time, chance and packets are arguments."""
