"""The Graph API of WhatsApp: what graph.facebook.com answers and refuses."""
