"""One module per training framework, each behind an extra of its own; import what you need.

`import paramcast` loads none of them.
"""
