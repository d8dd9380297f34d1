"""Checks: pure functions from a recorded run to verdicts. Nothing here touches a process or a socket."""
