"""Boards: who is ranked with whom, in what order, and how certain a rank is."""
