"""Rolling restarts under load: a mesh of processes, a client that counts, and a service that keeps a ledger."""
