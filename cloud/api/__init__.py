"""The trace API: reads for people and machines, and the door for events that people say."""
