"""What is measured: the catalogue, splits, detection windows, generated tasks, and a user's own data."""
