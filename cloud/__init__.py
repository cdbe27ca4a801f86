"""Ingest, projection and trace API: from frames to one item's whole story."""
