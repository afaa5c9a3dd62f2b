"""`python -m maskmill`: the command `maskmill`."""

from .command import main

main()
