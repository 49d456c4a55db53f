"""The paper's claim, and the range that counts as about 40 %."""

CLAIM = "BioMamba takes about 40 % less VRAM than AVES for clips of 5 to 1000 s"
LOW, HIGH = 0.30, 0.50
