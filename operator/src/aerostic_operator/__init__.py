"""Custom resources and the platform: what an object describes is made so, and the object says how things are."""
