"""The kernel as a gateway of Proxy Mobile IPv6: registers one mobile, and makes the kernel's own tunnel its data plane.

usage: mag.py MN-ID CORE ACCESS-MAC

Written from RFC 5213 and RFC 6275 alone. Says "accepted: PREFIX" when packets may come.
"""

import ipaddress
import socket
import struct
import subprocess
import sys
from pathlib import Path

LMAA, PROXY_COA = "2001:db8:f::1", "2001:db8:f::11"
MOBILITY = 135
BINDING_UPDATE, BINDING_ACKNOWLEDGEMENT = 5, 6
ACKNOWLEDGE, PROXY = 0x8000, 0x0200
MN_ID, HOME_NETWORK_PREFIX, HANDOFF, ACCESS_TECHNOLOGY, LINK_LAYER_ID = 8, 22, 23, 24, 25


def ip(*words):
    subprocess.run(["ip", "-6", *words], check=True)


def interface(mac):
    for path in Path("/sys/class/net").iterdir():
        if (path / "address").read_text().strip() == mac:
            return path.name
    sys.exit(f"no interface is {mac}")


def option(kind, body):
    return struct.pack("!BB", kind, len(body)) + body


def binding_update(mn_id):
    """Without a checksum: the kernel writes it."""
    options = [
        # Any prefix; it is for octets 8n + 4.
        option(HOME_NETWORK_PREFIX, struct.pack("!BB16x", 0, 64)),
        # A new interface, of IEEE 802.11.
        option(HANDOFF, bytes([0, 1])),
        option(ACCESS_TECHNOLOGY, bytes([0, 4])),
        option(LINK_LAYER_ID, bytes([0, 0, 2, 0, 0, 0, 1, 1])),
        # A network access identifier.
        option(MN_ID, b"\x01" + mn_id.encode()),
    ]
    sequence, lifetime = 1, 75
    body = struct.pack("!HHH", sequence, ACKNOWLEDGE | PROXY, lifetime) + b"".join(options)
    missing = -(6 + len(body)) % 8
    body += option(1, bytes(missing - 2)) if missing > 1 else bytes(missing)
    return struct.pack("!BBBBH", 59, (6 + len(body)) // 8 - 1, BINDING_UPDATE, 0, 0) + body


def prefix(acknowledgement):
    kind, status, flags, sequence = struct.unpack_from("!2xBxxxBBH", acknowledgement)
    assert kind == BINDING_ACKNOWLEDGEMENT and status == 0 and flags & 0x20 and sequence == 1, acknowledgement.hex()
    at, found = 12, None
    while at < len(acknowledgement):
        kind = acknowledgement[at]
        if kind == 0:
            at += 1
            continue
        length = acknowledgement[at + 1]
        body = acknowledgement[at + 2 : at + 2 + length]
        if kind == HOME_NETWORK_PREFIX:
            found = ipaddress.IPv6Network((body[2:18], body[1]))
        at += 2 + length
    return found


def main(mn_id, core, access_mac):
    """The core has its address."""
    access = interface(access_mac)
    ip("link", "set", access, "up")
    ip("address", "add", "fe80::1/64", "dev", access, "nodad")
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")

    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, MOBILITY) as signalling:
        signalling.bind((PROXY_COA, 0))
        signalling.connect((LMAA, 0))
        signalling.settimeout(2)
        for _ in range(30):
            signalling.send(binding_update(mn_id))
            try:
                granted = prefix(signalling.recv(2048))
                break
            except TimeoutError:
                pass
        else:
            sys.exit("the anchor does not answer")

    # RFC 2473, without the option that limits nesting.
    ip("tunnel", "add", "mag0", "mode", "ip6ip6", "local", PROXY_COA, "remote", LMAA, "encaplimit", "none", "dev", core)
    ip("link", "set", "mag0", "up")
    ip("route", "add", str(granted), "dev", access)
    # RFC 5213 6.10.3: what the mobile sends goes to its anchor.
    ip("route", "add", "default", "dev", "mag0", "table", "100")
    ip("rule", "add", "from", str(granted), "iif", access, "lookup", "100")
    print(f"accepted: {granted}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
