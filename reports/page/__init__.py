"""The page: the context that its sections share, embedding of figures and tables, and assembly."""
