"""What the paper says, and what still counts as that."""

CLAIM = "BioMamba takes about 40 % less VRAM than AVES for clips of 5 to 1000 s"
# Of about 40 %.
LOW, HIGH = 0.30, 0.50
