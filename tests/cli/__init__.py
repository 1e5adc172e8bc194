"""The command line as people use it: processes on a real server."""
