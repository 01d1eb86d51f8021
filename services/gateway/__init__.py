"""The gateway: lets people, programs and agents in, and answers from an in-memory mirror of the derived state."""
