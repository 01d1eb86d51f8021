"""Whether the log is what was written: the checks, the running digest over all of it, and signed checkpoints. Pure."""
