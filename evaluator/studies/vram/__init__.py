"""The memory of BioMamba and AVES over the length of a clip."""
