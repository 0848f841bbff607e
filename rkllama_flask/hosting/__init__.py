"""Between the operating system and the application: addresses, logs, the first lines."""
