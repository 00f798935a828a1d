"""Published protocols: how good outputs are. Arrays in, numbers out; nothing of streamrnn."""
