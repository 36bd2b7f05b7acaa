"""What all commands share: errors in one line, the console, outputs, missing packages, child processes."""
