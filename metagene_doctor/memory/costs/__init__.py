"""The whole answer for a run: memory, time and disk."""
