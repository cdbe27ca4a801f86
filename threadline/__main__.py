"""`python -m threadline`: the console command where no script directory is on the path."""

from threadline.cli import main

main()
