"""What every part agrees on: samples, frames, events, receipts, errors, the device port.

And what its processes do alike: tell how they are, read settings, keep tasks, trust certificates.
"""
