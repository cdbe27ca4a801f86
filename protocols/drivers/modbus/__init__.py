"""Modbus TCP. The address text is explained in `address.py`, the wire in `client.py`."""
