"""What a reader sees: plots, tables, maps, pages."""
