"""Extraction: one pass over the audio that stores every layer under a key of the content."""
