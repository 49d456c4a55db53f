"""Studies: questions of the papers that one command answers again; one module per study."""
