"""Stations: what a user writes of them, the plan it compiles to, and the machine that runs it."""
