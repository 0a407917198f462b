"""The upstreams of the interop matrix: programs that people run, each started with a small configuration.

The Node and the ASGI service have the same paths:

    GET  /small     31 bytes, an ETag, two cookies; answers Range with 206 and If-None-Match with 304
    GET  /big       10 MiB with a length
    GET  /seen      JSON: method, target and fields as they arrived
    POST /digest    JSON: SHA-256 and length of the body
    POST /chunked   the same within 64 KiB of filler, without a length
    POST /trailers  a body and trailers, which tell of the request's trailer `x-note`
    GET  /nothing   204
    GET  /hints     103 with a link, then /small

nginx, HAProxy and Envoy stand in front of the Node service (and of the gRPC one), as they do in the field, and answer
some paths by themselves; nghttpd serves files and echoes uploads.
"""
