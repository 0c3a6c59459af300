"""What is kept of a customer: profile, days, features, and what to expect of them next."""
