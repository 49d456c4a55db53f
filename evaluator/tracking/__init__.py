"""Results, profiles and figures in MLflow."""
