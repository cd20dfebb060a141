"""The page: what its sections share, how figures and tables are embedded, and its assembly."""
