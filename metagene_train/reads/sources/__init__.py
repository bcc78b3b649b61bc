"""One small module for each compression, over files on disk and streams that can be read once."""
