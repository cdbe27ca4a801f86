"""The command line of Threadline: one root, whose groups load on first use."""
