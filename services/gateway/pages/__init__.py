"""The dashboard: the mesh in a browser. Pages are rendered here, and follow what happens by server-sent events."""
