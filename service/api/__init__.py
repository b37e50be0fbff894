"""Routes of the HTTP API, their options, schemas and responses."""
