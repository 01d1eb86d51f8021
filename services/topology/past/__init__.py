"""What was, or would be: the derivation again, up to a moment."""
