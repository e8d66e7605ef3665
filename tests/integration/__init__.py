"""With a real database, in this process."""
