"""What is counted in the pass over a file."""
