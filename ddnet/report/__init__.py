"""From run folders to tables, figures, model cards and MLflow; torch is never imported here."""
