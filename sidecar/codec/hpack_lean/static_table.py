"""The static table of RFC 7541 appendix A, and what both sides know of tables.

Indices 1 to 61 are the static table's, the dynamic one begins at DYNAMIC with its newest entry (section 2.3.3).
"""

ENTRY_OVERHEAD_BYTES = 32  # of each entry, and of each field of a header list (section 4.1; RFC 9113 section 6.5.2)
TABLE_MAX_BYTES = 4096  # the default of SETTINGS_HEADER_TABLE_SIZE

_APPENDIX_A = b"""\
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
"""


def _entries() -> list[tuple[bytes, bytes]]:
    lines = [line.partition(b" ") for line in _APPENDIX_A.splitlines()]
    return [(name, value) for name, _, value in lines]


STATIC = ((b"", b""), *_entries())  # by index; there is none of 0
DYNAMIC = len(STATIC)
STATIC_ENTRY_MAX_BYTES = ENTRY_OVERHEAD_BYTES + max(len(name) + len(value) for name, value in STATIC)
# The lowest index that has a name, and the one that has a name and value.
NAME_INDEX = {STATIC[index][0]: index for index in range(DYNAMIC - 1, 0, -1)}
FIELD_INDEX = {STATIC[index]: index for index in range(1, DYNAMIC)}
