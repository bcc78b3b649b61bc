"""What an allocator makes of a recording."""
