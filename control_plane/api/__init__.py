"""The HTTP API of the control plane on 15010: what `meshctl`, dashboards and scripts talk to.

`token` keeps the secret, `guard` decides who may ask and how much, `routes` translates between HTTP and
`control_plane.facade`, `listen` opens the port. Decides nothing about the mesh itself.
"""
