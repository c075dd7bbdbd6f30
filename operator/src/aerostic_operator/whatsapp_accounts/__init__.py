"""The kind WhatsAppAccount."""
