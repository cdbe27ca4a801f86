"""What every part agrees on: samples, frames, events, receipts, errors, the device port."""
