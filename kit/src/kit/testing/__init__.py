"""Harnesses for the tests of all rooms: real servers, real databases, no stand-ins of our own code."""
