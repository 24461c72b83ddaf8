"""What the operating system provides: processes, signals, atomic files, memory, command-line arguments."""
