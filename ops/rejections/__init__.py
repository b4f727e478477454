"""Rejections: list them, send corrected commands, or discard them."""
