"""What is asked of the operating system: files, locks, streams, the machine and its limits."""
