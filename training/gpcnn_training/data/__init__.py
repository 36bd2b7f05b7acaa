"""Data sets: by name, by path, and how pixels become levels."""
