"""One pass over the audio, every layer, into a store that is keyed by content."""
