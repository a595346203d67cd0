"""Layer 4: the only room that knows Ray: search (Tune), trainer (Train), pool (actors)."""
