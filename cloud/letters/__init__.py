"""Dead letters as people handle them: looked at, tried again, dropped."""
