"""The schema's history: alembic revisions made from the declarations."""
