"""What operators, probes and scrapers ask a running sidecar, over HTTP: see `endpoints.py` for the table.

Reads through `view.AdminView`, which `app` implements; decides nothing and holds nothing.
"""
