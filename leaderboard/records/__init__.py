"""The record of a result, its files, its protocol, and what makes it believable."""
