"""The API's description, the page that shows it, and the status of the pipeline."""
