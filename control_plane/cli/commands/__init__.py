"""meshctl's commands, a file for each subject. They ask, arrange and print; what is decided is decided elsewhere."""
