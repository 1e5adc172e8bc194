"""The trio shell: sockets, threads, time. Everything that waits, and nothing that decides."""
