"""The data plane: a proxy beside one service that carries its traffic in and out.

Data goes down the list of folders in ARCHITECTURE.md; pure folders decide, `transport`, `proxy`, `control` and
`admin` act.
"""

__version__ = "0.1.0"
