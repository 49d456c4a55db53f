"""How a result is described and verified."""
