"""Others that load rows into Postgres, each as its documentation says, set up to be fast."""
