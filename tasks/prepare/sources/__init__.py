"""Where a data set may be taken from; one module per choice of `--from`."""
