"""The project's tests: unit (pure), contract (one suite per seam), integration (database), acceptance (processes)."""
