"""Export a result as a model that can be used."""
