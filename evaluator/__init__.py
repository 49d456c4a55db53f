"""How it is measured: backbone, features, probes, search, record; and the command line."""
