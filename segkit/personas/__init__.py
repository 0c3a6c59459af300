"""Who the segments are: traits, rules, names, facts, cards, copy."""
