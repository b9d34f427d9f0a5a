"""`python -m virtue`: the `virtue` command where the script is not on the path."""

from virtue.cli import main

main()
