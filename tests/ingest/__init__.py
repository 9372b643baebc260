"""The ops server, over real sockets."""
