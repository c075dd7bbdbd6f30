"""The real servers the product stands on, run from their wheels."""
