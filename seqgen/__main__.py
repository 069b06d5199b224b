"""`python -m seqgen`: the command line."""

from seqgen.cli import main

main()
