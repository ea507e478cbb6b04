"""The connection to a server: addresses, messages, memory shared with it, sockets that outlive a worker."""
