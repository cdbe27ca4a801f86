"""Pure code between bytes and events: conditioning and binding. No I/O, no clock, no randomness."""
