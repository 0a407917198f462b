"""What can be wrong with a header block."""


class HpackError(Exception):
    """A block breaks RFC 7541; str() says how, and by which section. The table is lost: COMPRESSION_ERROR."""


class ListTooLargeError(Exception):
    """A header list is above a limit of ours; str() says which. The table is as the peer thinks: costs a stream."""
