"""The HTTP/2 codec of our own: `MuxServer` and `MuxClient` without a library."""
