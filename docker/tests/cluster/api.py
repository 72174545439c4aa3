"""The API: objects, and what `kubectl` asks of a pod."""

import base64
import contextlib
import copy
import hashlib
import http.server
import json
import re
import struct
import subprocess
import time
import urllib.parse

from forward import Forward
from objects import KINDS, discovery, merged, parsed, selected, store

DISCOVERY = discovery()
PATH = re.compile(r"/apis?/(.+?)/namespaces/([^/]+)/([^/]+)(?:/([^/]+))?(?:/([^/]+))?")


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    node = None

    def log_message(self, *_):
        pass

    def answer(self, body, code=200, kind="application/json"):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, code, reason, message):
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
        self.answer(status | {"code": code, "reason": reason, "message": message}, code)

    def serve(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if url.path in DISCOVERY:
            return self.answer(DISCOVERY[url.path])
        found = PATH.fullmatch(url.path)
        version, namespace, plural, name, part = found.groups() if found else [None] * 5
        if KINDS.get(plural, [""])[0] != version:
            return self.refuse(404, "NotFound", "the server could not find the requested resource")
        if part:
            return self.pod(name, part, query, urllib.parse.parse_qs(url.query).get("command"))
        if self.command == "GET" and not name:
            return (self.watch if "watch" in query else self.list)(plural, namespace, query)
        body = parsed(content) if self.command in ("POST", "PUT", "PATCH") else None
        key = (plural, namespace, name or body["metadata"]["name"])
        # Whoever applies an object, as helm does, owns all of it here, and makes it if there is none.
        applied = self.headers.get("Content-Type") == "application/apply-patch+yaml"
        with store.changed:
            old = store.objects.get(key)
            if old is None and self.command != "POST" and not applied:
                return self.refuse(404, "NotFound", f'{plural} "{name}" not found')
            if old is not None and self.command == "POST":
                return self.refuse(409, "AlreadyExists", f'{plural} "{key[2]}" already exists')
            if self.command == "GET":
                return self.answer(old)
            if self.command == "DELETE":
                return self.answer(self.delete(key, old))
            if self.command == "PATCH" and not applied:
                body = merged(old, body)
            if old and "status" in old:
                body["status"] = old["status"]
            self.answer(store.write(key, body))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve

    def delete(self, key, old):
        if key[0] == "pods":
            # The node removes it, when its processes have ended.
            going = copy.deepcopy(old)
            going["metadata"]["deletionTimestamp"] = old["metadata"]["creationTimestamp"]
            return store.write(key, going)
        store.remove(key)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"uid": old["metadata"]["uid"]}}

    def list(self, plural, namespace, query):
        version, kind, _ = KINDS[plural]
        with store.changed:
            there = store.objects.items()
            items = [each for key, each in there if key[:2] == (plural, namespace) and selected(each, query)]
            metadata = {"resourceVersion": str(len(store.events))}
            self.answer({"kind": f"{kind}List", "apiVersion": version, "metadata": metadata, "items": items})

    def watch(self, plural, namespace, query):
        """Tells of everything from a version on, until nobody listens when something happens."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        seen = int(query.get("resourceVersion", 0))
        with contextlib.suppress(ConnectionError):
            while True:
                with store.changed:
                    store.changed.wait_for(lambda: len(store.events) > seen)
                    event, key, thing = store.events[seen]
                seen += 1
                if key[:2] == (plural, namespace) and selected(thing, query):
                    self.wfile.write(json.dumps({"type": event, "object": thing}).encode())

    def pod(self, name, part, query, command):
        pod = self.node.pods.get(name)
        container = pod and pod.containers.get(query.get("container"))
        if pod and part == "portforward" and self.command == "POST":
            self.upgrade("SPDY/3.1", ("X-Stream-Protocol-Version", "portforward.k8s.io"))
            with contextlib.suppress(ConnectionError):
                Forward(self.rfile, self.wfile, pod.connect).serve()
        elif container and part == "log":
            lines = container.lines[-int(query.get("tailLines", 0)):]
            self.answer(b"".join(lines), kind="text/plain")
        elif container and part == "exec":
            self.execute(container.inside(command))
        else:
            # Who has come for a port by a WebSocket comes once more then, by SPDY.
            self.refuse(400, "BadRequest", f"no {part} of {name} {query.get('container', '')}")

    def execute(self, command):
        """Runs a command that reads nothing, and sends what it has printed when it has ended."""
        nonce = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        proof = base64.b64encode(hashlib.sha1(nonce.encode()).digest()).decode()
        protocol = ("Sec-WebSocket-Protocol", "v5.channel.k8s.io")
        self.upgrade("websocket", ("Sec-WebSocket-Accept", proof), protocol)
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        status = {"metadata": {}, "status": "Success"}
        if ended.returncode:
            causes = [{"reason": "ExitCode", "message": str(ended.returncode)}]
            status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
        # kubectl throws away what comes before it has made a place for it.
        time.sleep(0.3)
        # Two are its outputs, the third is for how it ended.
        for channel, text in [(1, ended.stdout), (2, ended.stderr), (3, json.dumps(status).encode())]:
            self.wfile.write(struct.pack(">BBQB", 0x82, 127, len(text) + 1, channel) + text)
        self.wfile.write(struct.pack(">BBH", 0x88, 2, 1000))

    def upgrade(self, protocol, *headers):
        self.send_response(101)
        for name, value in [("Connection", "Upgrade"), ("Upgrade", protocol), *headers]:
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
