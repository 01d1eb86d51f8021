"""Makes one machine agree with its desired state."""
