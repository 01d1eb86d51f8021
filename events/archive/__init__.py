"""The log in a file: the backup, and the way to another server. Pure."""
