"""The command line's questions to the API: `threadline trace` and `threadline verify`."""
