"""Pure: no database, no process, no clock but the one handed in."""
