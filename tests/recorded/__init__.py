"""What real programs send: recorded by record.py, kept in tests/data/heads, read by corpus.py."""
