"""Rejections: list them, send amendments, or discard them."""
