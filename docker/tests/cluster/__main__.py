"""A stand-in for a cluster: as much of Kubernetes' API as kubectl and helm ask for, and a node that runs pods.

It keeps objects and does not check them. Of controllers it has the StatefulSet's, for one replica; of a kubelet the volumes,
cores, devices, capabilities and the readiness probe. Networks of Multus are bridges, the image is this machine's root, and a
container is a process.

`python3 cluster FLOWMOB`, as the first process of namespaces for mounts and processes, which end with it; and in one for the
network, where 127.0.0.1:6443 is the API.
"""

import http.server
import sys
import threading
import time
import traceback

from api import Api
from node import Node

node = Api.node = Node(sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 6443), Api)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", file=sys.stderr)
while True:
    time.sleep(0.1)
    try:
        node.turn()
    except Exception:
        # Whoever waits for the pod sees that it does not come.
        traceback.print_exc()
        time.sleep(1)
