"""What the API says of itself: its description, the page that shows it, and how it is doing."""
