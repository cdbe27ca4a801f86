"""The agent on the plant floor: polls devices, conditions and binds, spools, publishes."""
