"""Errors, files, the home directory and progress, for all three packages."""
