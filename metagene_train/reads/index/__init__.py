"""The read index on disk: its files, and writing them during the scan."""
