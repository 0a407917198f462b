"""The sidecar's end of port 15012: configuration and identity come in here, and what was counted goes out.

Read in this order: `wire` (frames), `fields`, `push` and `messages` (what travels), `state` (what a push does), `want`
(what is subscribed to), `cache_file` (what survives as text): all pure, and the control plane uses the first four too.
Then the shell: `link` and `dial` (reach and prove), `session` (one stream), `identity` with `join_file` (join, renew,
watch files), `cache` (the disk), `lookups` (waiting), `collector`, and `client` (all together, with a `sink`).
"""
