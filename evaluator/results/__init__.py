"""Describe, publish and verify results."""
