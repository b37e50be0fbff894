"""Settings of the service from flags, environment variables and a file."""
