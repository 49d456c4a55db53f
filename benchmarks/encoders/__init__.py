"""Submissions of pretrained encoders whose weights come inside Python packages."""
