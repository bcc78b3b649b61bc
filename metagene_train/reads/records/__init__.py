"""Where records start and end, in every format."""
