"""What this machine is: its board, its NPU, what it can run."""
