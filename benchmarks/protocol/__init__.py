"""The evidence for the rules of training: candidates for a protocol, trained on the same vectors and judged alike."""
