"""The verbs on tasks: protocol, Lua, Redis and memory side by side."""
