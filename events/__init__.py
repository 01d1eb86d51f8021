"""The shared language of Wireloom: events, commands, derived records, errors, subjects and streams."""
