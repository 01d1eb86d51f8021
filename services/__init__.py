"""The control plane: one room per service."""
