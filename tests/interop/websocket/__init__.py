"""WebSocket echo with {websockets, aiohttp, Node's ws} on both sides, through our sidecars and directly.

A server echoes every message as it came, but for text that begins with `!`:

    !ping              pings with "from the server"; says `!ponged` when the pong is there
    !close CODE WHY    closes
    !name TOKEN        says `!named`; how this connection ends will be kept under TOKEN
    !ended TOKEN       says `!CODE WHY` when that connection has ended, as the server saw it

A client runs the steps of script.py and gives a transcript: one line a step. What is compared is transcripts.
"""
