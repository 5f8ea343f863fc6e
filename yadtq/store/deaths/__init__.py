"""Death certificates: protocol, Lua, Redis and memory side by side."""
