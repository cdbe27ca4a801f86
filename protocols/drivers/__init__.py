"""One folder a protocol. In each, only client.py does I/O; only the registry opens it."""
