"""Scenarios of `meshctl sim` played with real processes on loopback, to see that the simulator tells the truth."""
