"""Our sidecar beside its opponents in the same run: CPU per request and memory. See README.md."""
