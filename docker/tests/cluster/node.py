"""The node: its kubelet, network and runtime, and the controller of StatefulSets."""

import base64
import copy
import ctypes
import hashlib
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import threading

from objects import store

# Directories for what comes and goes with the node, and `/etc`.
OWN = ["/run", "/usr/local", "/var/lib"]


def run(*command):
    subprocess.run(command, check=True)


class Container:
    """A process as a runtime confines it, and what it has said."""

    def __init__(self, pod, spec, cores):
        self.pod = pod
        self.spec = spec
        self.lines = []
        script = ""
        for mount in spec["volumeMounts"]:
            path = mount["mountPath"]
            os.makedirs(path, exist_ok=True)
            script += f"mount --bind {pod.volumes[mount['name']]} {path}\n"
            if mount.get("readOnly"):
                script += f"mount -o remount,bind,ro {path}\n"
        if spec["securityContext"]["readOnlyRootFilesystem"]:
            script += "".join(f"mount -o remount,bind,ro {path}\n" for path in ["/", "/etc", *OWN])
        # This makes a namespace for mounts, too.
        command = ["ip", "netns", "exec", pod.name, "sh", "-euc", script + 'exec "$@"', "sh", "taskset", "-c", cores]
        self.environment = dict(os.environ, HOSTNAME=pod.name) | pod.devices(spec)
        self.environment.update((each["name"], each["value"]) for each in spec["env"])
        self.process = subprocess.Popen(
            command + self.confined(spec["command"]),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        threading.Thread(target=self.listen, daemon=True).start()

    def confined(self, command):
        """A command as the container's user, with its capabilities and no others."""
        user, may = self.pod.spec["securityContext"], self.spec["securityContext"]
        bounds = ",".join(["-all", *("+" + name for name in may["capabilities"].get("add", []))]).lower()
        setpriv = ["setpriv", f"--reuid={user['runAsUser']}", f"--regid={user['runAsGroup']}", "--clear-groups"]
        setpriv += ["--inh-caps=-all", f"--bounding-set={bounds}"]
        return setpriv + ([] if may["allowPrivilegeEscalation"] else ["--no-new-privs"]) + command

    def inside(self, command):
        nsenter = ["nsenter", f"--target={self.process.pid}", "--mount", "--net", "env", "-i"]
        return nsenter + [f"{name}={value}" for name, value in self.environment.items()] + self.confined(command)

    def listen(self):
        for line in self.process.stdout:
            self.lines.append(line)
            sys.stderr.write(f"{self.pod.name} {self.spec['name']}: {line.decode(errors='replace')}")


class Pod:
    """The one of a StatefulSet."""

    def __init__(self, node, owner, revision):
        metadata, template = owner["metadata"], copy.deepcopy(owner["spec"]["template"])
        self.node = node
        self.revision = revision
        self.namespace = metadata["namespace"]
        self.name = metadata["name"] + "-0"
        self.key = ("pods", self.namespace, self.name)
        self.spec = template["spec"]
        for claim in owner["spec"].get("volumeClaimTemplates", []):
            volume = claim["metadata"]["name"]
            name = f"{volume}-{self.name}"
            store.write(("persistentvolumeclaims", self.namespace, name), {"spec": claim["spec"]})
            self.spec["volumes"].append({"name": volume, "persistentVolumeClaim": {"claimName": name}})
        store.write(self.key, template | {"status": {"phase": "Pending"}})
        self.volumes = {each["name"]: self.place(each) for each in self.spec["volumes"]}
        self.refresh()
        run("ip", "netns", "add", self.name)
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        self.resources = self.attach(template["metadata"]["annotations"])
        containers = self.spec["containers"]
        self.containers = {each["name"]: Container(self, each, node.cores(each)) for each in containers}

    def place(self, volume):
        """The directory of a volume. That of a claim is there when the pod is not."""
        claim = volume.get("persistentVolumeClaim")
        path = f"/run/claims/{claim['claimName']}" if claim else f"/run/pods/{self.name}/{volume['name']}"
        os.makedirs(path, exist_ok=True)
        if "emptyDir" in volume:
            os.chmod(path, 0o777)
        return path

    def refresh(self):
        """Brings ConfigMaps and Secrets, if they have changed: all files of one from one moment to the next."""
        for volume in self.spec["volumes"]:
            if source := volume.get("configMap"):
                thing = store.objects["configmaps", self.namespace, source["name"]]
            elif source := volume.get("secret"):
                thing = store.objects["secrets", self.namespace, source["secretName"]]
            else:
                continue
            directory, version = self.volumes[volume["name"]], f"..{thing['metadata']['resourceVersion']}"
            if os.path.exists(f"{directory}/{version}"):
                continue
            os.mkdir(f"{directory}/{version}")
            for name, text in thing["data"].items():
                path = f"{directory}/{version}/{name}"
                with open(path, "wb") as file:
                    file.write(text.encode() if thing["kind"] == "ConfigMap" else base64.b64decode(text))
                os.chmod(path, source.get("defaultMode", 0o644))
                if not os.path.lexists(f"{directory}/{name}"):
                    os.symlink(f"..data/{name}", f"{directory}/{name}")
            os.symlink(version, f"{directory}/..new")
            os.rename(f"{directory}/..new", f"{directory}/..data")

    def attach(self, annotations):
        """Gives the pod its interfaces; returns those that are devices to it, by resource."""
        resources = {}
        networks = json.loads(annotations.get("k8s.v1.cni.cncf.io/networks", "[]"))
        for number, network in enumerate(networks, 1):
            namespace = network.get("namespace", self.namespace)
            definition = store.objects["network-attachment-definitions", namespace, network["name"]]
            resource = definition["metadata"].get("annotations", {}).get("k8s.v1.cni.cncf.io/resourceName")
            bridge = json.loads(definition["spec"]["config"]).get("bridge") or resource.split("/")[1]
            interface = network.get("interface", f"net{number}")
            if resource:
                resources.setdefault(resource, []).append(interface)
            if bridge not in self.node.bridges:
                self.node.bridges.add(bridge)
                run("ip", "link", "add", bridge, "up", "type", "bridge")
            other = f"veth{next(self.node.numbers)}"
            run("ip", "link", "add", other, "up", "master", bridge, "type", "veth", "peer", interface, "netns", self.name)
            run("ip", "-n", self.name, "link", "set", interface, "up")
        return resources

    def devices(self, spec):
        """What the device plugin tells a container that has asked for devices."""
        asked = self.resources.keys() & spec["resources"]["limits"].keys()
        variable = lambda resource: "PCIDEVICE_" + re.sub("[^A-Z0-9]", "_", resource.upper())
        return {variable(resource): ",".join(self.resources[resource]) for resource in asked}

    def connect(self, port):
        """A connection to one of the pod's ports, for which this thread goes to its network namespace."""
        setns = ctypes.CDLL(None).setns
        with open("/proc/thread-self/ns/net") as here, open(f"/run/netns/{self.name}") as there:
            assert setns(there.fileno(), 0) == 0
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=5)
            finally:
                assert setns(here.fileno(), 0) == 0

    def is_ready(self):
        """Asks as the readiness probe of the first container does."""
        first = self.spec["containers"][0]
        probe = first["readinessProbe"]["httpGet"]
        port = next(each["containerPort"] for each in first["ports"] if each["name"] == probe["port"])
        try:
            with self.connect(port) as connection:
                connection.sendall(f"GET {probe['path']} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n".encode())
                return connection.recv(12) == b"HTTP/1.1 200"
        except OSError:
            return False

    def report(self):
        """Tells the API how the pod is; returns whether it is ready."""
        runs = all(each.process.poll() is None for each in self.containers.values())
        ready = runs and self.is_ready()
        with store.changed:
            conditions = [{"type": "Ready", "status": str(ready)}]
            status = {"phase": "Running" if runs else "Failed", "conditions": conditions}
            store.write(self.key, store.objects[self.key] | {"status": status})
        return ready

    def end(self):
        for container in self.containers.values():
            container.process.terminate()
        for container in self.containers.values():
            container.process.wait(self.spec["terminationGracePeriodSeconds"])
        self.clear(self.name)
        store.remove(self.key)

    @staticmethod
    def clear(name):
        """Takes away what a pod has, even if it is not all there."""
        subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
        run("rm", "-rf", f"/run/pods/{name}")


class Node:
    def __init__(self, flowmob):
        self.pods = {}
        self.bridges = set()
        self.numbers = itertools.count()
        self.idle = itertools.cycle(sorted(os.sched_getaffinity(0)))
        # Wherever it is: that may be hidden then.
        program = os.open(flowmob, os.O_RDONLY)
        for path in OWN:
            run("mount", "-t", "tmpfs", "node", path)
        run("cp", "-a", "/etc", "/run/etc")
        run("mount", "--bind", "/run/etc", "/etc")
        os.makedirs("/usr/local/bin")
        open("/usr/local/bin/flowmob", "x").close()
        run("mount", "--no-canonicalize", "--bind", f"/proc/{os.getpid()}/fd/{program}", "/usr/local/bin/flowmob")
        os.environ["PATH"] = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    def cores(self, spec):
        """The CPUs of a container: its own if it asks for whole ones, as long as there are enough."""
        amount = spec["resources"]["limits"]["cpu"]
        if amount.isdigit():
            return ",".join(str(next(self.idle)) for _ in range(int(amount)))
        return ",".join(map(str, os.sched_getaffinity(0)))

    def turn(self):
        """Ends the pods that should not be, begins those that should, and tells how they are."""
        with store.changed:
            sets = [each for key, each in store.objects.items() if key[0] == "statefulsets"]
        wanted = {each["metadata"]["name"] + "-0": each for each in sets}
        for name, pod in list(self.pods.items()):
            stays = name in wanted and pod.revision == self.revision(wanted[name])
            if not stays or "deletionTimestamp" in store.objects[pod.key]["metadata"]:
                del self.pods[name]
                pod.end()
        for name, owner in wanted.items():
            if name not in self.pods:
                try:
                    self.pods[name] = Pod(self, owner, self.revision(owner))
                except KeyError as missing:
                    # It may come: helm makes what it does not know, such as networks, last of all.
                    print(f"{name} waits for {missing}", file=sys.stderr)
                    Pod.clear(name)
                    self.report(owner, False)
                    continue
            self.pods[name].refresh()
            self.report(owner, self.pods[name].report())

    @staticmethod
    def revision(owner):
        """Changes with what a pod is made of, and with who made it."""
        return hashlib.sha1(json.dumps([owner["metadata"]["uid"], owner["spec"]["template"]]).encode()).hexdigest()[:10]

    def report(self, owner, ready):
        metadata, revision = owner["metadata"], self.revision(owner)
        status = {"observedGeneration": metadata["generation"], "replicas": 1, "updatedReplicas": 1}
        status |= {"readyReplicas": int(ready), "currentRevision": revision, "updateRevision": revision}
        key = ("statefulsets", metadata["namespace"], metadata["name"])
        with store.changed:
            if store.objects.get(key) is owner:
                store.write(key, owner | {"status": status})
