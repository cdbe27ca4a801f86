"""What every part of Threadline agrees on: samples, frames, events, receipts, errors, and the device port."""
