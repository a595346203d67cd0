"""Layer 1: artefacts by key. A folder is visible only when whole; what is read is checked against its hashes."""
