"""Our sidecars between programs that people run: whatever a client gets directly, it gets through us."""
