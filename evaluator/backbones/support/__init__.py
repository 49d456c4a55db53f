"""What several loaders share: checkpoint files, paths of a submission, waveforms."""
