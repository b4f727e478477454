"""Decisions in the database: rejections, and the log that follows and extends the archive's."""
