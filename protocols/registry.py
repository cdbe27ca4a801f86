"""The one visible list of drivers; each is imported only when a device of its protocol is opened."""
