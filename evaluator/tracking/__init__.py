"""Send results, profiles and figures to MLflow."""
