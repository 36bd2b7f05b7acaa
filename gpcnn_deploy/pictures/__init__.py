"""Pictures: levels and pixels, and the one reader of picture files and arrays."""
