"""Where results are kept and waited for: one registry, one small module per store."""
