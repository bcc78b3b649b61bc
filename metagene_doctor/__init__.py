"""Everything that judges a run before and after it."""
