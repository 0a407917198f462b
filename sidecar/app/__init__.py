"""The process: holder and worker put together from a bootstrap, started, watched, ended.

`holder.py` keeps what is one per process (configuration source, identity, admin, metrics, the app's health),
`data_plane.py` is a worker with its sockets, `life.py` starts, drains and ends both. Only `cli` imports this package.
"""
