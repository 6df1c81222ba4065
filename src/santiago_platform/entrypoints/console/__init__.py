"""The console: web pages for people, at `/` of the server."""
