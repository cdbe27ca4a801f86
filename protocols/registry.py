"""The one visible list of drivers; each is imported only when such a device is opened."""
