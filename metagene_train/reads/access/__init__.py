"""Reads by number: of one file or several, all of them or some."""
