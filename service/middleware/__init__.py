"""ASGI middleware: request context, keys, limits, origins, proxies."""
