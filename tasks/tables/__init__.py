"""The tables of a task: rows of clips in CSV, rows of recordings in JSON lines, and their labels."""
