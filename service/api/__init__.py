"""The HTTP API: routes, options, uploads, schemas, and the live stream."""
