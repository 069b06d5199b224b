"""Speed and memory, each side by side with the naive way or a peer in one process. Not tests."""
