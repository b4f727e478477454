"""The schema's history: Alembic revisions made from the declarations."""
