"""HPACK (RFC 7541), the header compression of HTTP/2: decoder.py reads header blocks, encoder.py writes them.

Below h2_heads.py: fields are names and values here, whatever they mean. What was never to be indexed stays so
(`NeverIndexed` of model/messages.py). One `Decoder` and one `Encoder` belong to one connection, and know no other.
"""
