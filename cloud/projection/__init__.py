"""The current view as a pure function of the set of events: no I/O, no clock, no randomness.

`whole.project` says what the view is; `advance` keeps it up one event at a time with the same
functions over what one event can affect. Every order of arrival ends in the same rows.
"""
