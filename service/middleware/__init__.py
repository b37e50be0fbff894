"""Middleware: request ids, logs and headers; API keys, limits, origins, proxies."""
