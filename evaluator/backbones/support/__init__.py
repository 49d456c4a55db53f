"""Helpers of several loaders: checkpoint files, paths of a submission, waveforms."""
