"""What headers say: class, tax id, read length, mate."""
