"""S7 communication. The address text is explained in `address.py`, the wire in `wire.py`."""
