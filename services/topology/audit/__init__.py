"""Whether all is in order: checkpoints of the log, and STATE held against a rebuild."""
