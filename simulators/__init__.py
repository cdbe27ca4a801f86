"""A plant of simulated devices with a journal of its own. Shares no code with the product."""
