"""The control plane: registers services, issues identities, pushes routing, shows what the mesh does.

`facade` is its front; `compile`, `registry`, `sessions` and `stats` decide (pure), `ledger` keeps, `push`, `serve` and
`authority` act. `api/` and `cli/` stand on the facade alone.
"""
