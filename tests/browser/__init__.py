"""The dashboard in a real Chromium, on a whole secured control plane."""
