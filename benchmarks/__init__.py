"""Programs that measure; each writes a report to paste."""
