"""The reference cluster: a sharded, replicated key-value store that is meant to be right (DESIGN section 6).

Imports nothing of Aftershock, so that the folder can be copied into an image and run on its own:
`python -m aftershock.systems_under_test.reference node|router|controller`.
"""
