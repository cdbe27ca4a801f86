"""What people and machines ask: SQL in, frozen rows out. Nothing here writes."""
