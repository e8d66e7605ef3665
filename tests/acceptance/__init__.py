"""With real worker processes, each test in a project of its own."""
