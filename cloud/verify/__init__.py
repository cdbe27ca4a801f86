"""The proof: of delivery for an agent, of collection for a station. Reads, never writes."""
