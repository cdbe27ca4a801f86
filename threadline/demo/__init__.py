"""A whole line on one machine for a look: simulated plant to trace. Never serves a plant."""
