"""The wireloom program: runs the control plane, and is its client."""
