"""One module a subject; each has a `router` that `cloud.api.app` includes."""
