"""Built-in sequences, found through the entry points `seqgen.sequences` like anyone's."""
