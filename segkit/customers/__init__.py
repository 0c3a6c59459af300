"""Describe customers: days, features, needs, profile, and what they are likely to do next."""
