"""Result stores and the servers they are tried with: the real one, an emulator, or a double that speaks its protocol."""
