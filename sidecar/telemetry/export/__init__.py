"""The part of telemetry that does I/O: the log's file descriptor, the connection to the trace collector.

`app` starts the tasks here. None of them is ever waited for by a request: what cannot be taken in time is dropped
and counted.
"""
