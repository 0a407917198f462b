"""Where the control plane keeps what must survive a restart: `contract` says what a store does, `sqlite` is one."""
