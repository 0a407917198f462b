"""Configuration text -> model, with every problem at its place. Pure, but for `files.py`, which opens files.

In the order that data goes: `files` reads; `yaml_text` and `json_text` make trees of `node`s, with `scalars` and
`grammar` for values and `problems` for complaints; `resources` knows all kinds and sends each to its own file
(`services`, `routes` with `matches`, `traffic`, `access`, `workloads`; `header` and `targets` are shared); `check` sees
whether documents fit together; `derive` makes a snapshot's resources of them. `bootstrap` reads a sidecar's own file,
`environment` overrides it, `bootstrap_checks` looks across its sections; `report` is what `sidecar check` says.
"""
