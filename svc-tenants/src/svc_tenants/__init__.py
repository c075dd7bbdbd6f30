"""Workspaces, the WhatsApp numbers they connect, and the tokens that may use them."""
