"""The HTTP API, under `/api/v1`, with health and metrics beside it."""
