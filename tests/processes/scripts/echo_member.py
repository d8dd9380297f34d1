"""A member for tests: answers every line on `listen`, and writes each line that arrived to the file `received`.

echo_member.py HOST PORT RECEIVED
"""

import socketserver
import sys


class Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        try:
            for line in self.rfile:
                with open(sys.argv[3], "ab") as file:  # noqa: PTH123
                    file.write(line)
                self.wfile.write(line)
        except ConnectionError:
            pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


with Server((sys.argv[1], int(sys.argv[2])), Handler) as server:
    server.serve_forever()
