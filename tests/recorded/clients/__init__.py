"""The programs that are recorded. Each is given the address of service.mjs and asks for everything that it can ask."""
