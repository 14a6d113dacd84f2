"""Random settings, computed by every backend and by an oracle, and compared."""
