"""The links of the chain as functions from files to files: what each command of the command line does."""
