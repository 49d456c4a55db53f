"""What the suite costs, measured: each module is one command, run from the root of the checkout."""
