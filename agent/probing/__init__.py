"""Finds the address at which each peer is reached directly. Pure: time, chance and packets are arguments."""
