"""Other programs that load rows into Postgres, set up for speed by their documentation."""
