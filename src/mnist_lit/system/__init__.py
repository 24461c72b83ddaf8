"""Operating-system services: processes, signals, atomic files, memory, the terminal, command-line arguments."""
