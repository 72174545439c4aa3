"""`kubectl port-forward`: SPDY/3.1, of whose streams each connection has two, first for errors and then for data."""

import re
import socket
import struct
import threading
import zlib

SYN_STREAM, SYN_REPLY, PING, GOAWAY = 1, 2, 6, 7
END = 1


class Forward:
    def __init__(self, reader, writer, connect):
        self.reader = reader
        self.writer = writer
        self.connect = connect
        self.writing = threading.Lock()
        self.errors = None
        self.connections = {}
        # There are names in the dictionary of the protocol, and only numbers are looked for here: zeros do.
        self.inflate = zlib.decompressobj(-zlib.MAX_WBITS, zdict=bytes(1 << zlib.MAX_WBITS))
        # Without a dictionary, which is understood.
        self.deflate = zlib.compressobj()

    def send(self, head, body, flags=0):
        with self.writing:
            self.writer.write(struct.pack(">II", head, flags << 24 | len(body)) + body)

    def control(self, kind, body):
        self.send(0x80030000 | kind, body)

    def serve(self):
        # What zlib puts before its first block.
        start = 6
        while len(head := self.reader.read(8)) == 8:
            first, length = struct.unpack(">II", head)
            flags, body = length >> 24, self.reader.read(length & 0xFFFFFF)
            kind = first & 0xFFFF if first >> 31 else None
            if kind == SYN_STREAM:
                self.begin(struct.unpack(">I", body[:4])[0], self.inflate.decompress(body[10 + start:]))
                start = 0
            elif kind == PING:
                self.control(PING, body)
            elif kind == GOAWAY:
                break
            elif first in self.connections:
                self.connections[first].sendall(body)
                if flags & END:
                    self.connections[first].shutdown(socket.SHUT_WR)

    def begin(self, stream, headers):
        none = self.deflate.compress(bytes(4)) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        self.control(SYN_REPLY, struct.pack(">I", stream) + none)
        if self.errors is None:
            self.errors = stream
            return
        errors, self.errors = self.errors, None
        try:
            self.connections[stream] = connection = self.connect(int(re.search(rb"\d{2,}", headers)[0]))
        except OSError as error:
            self.send(errors, str(error).encode(), END)
            self.send(stream, b"", END)
        else:
            threading.Thread(target=self.carry, args=(connection, stream, errors), daemon=True).start()

    def carry(self, connection, stream, errors):
        while body := connection.recv(1 << 16):
            self.send(stream, body)
        self.send(stream, b"", END)
        self.send(errors, b"", END)
