"""The objects of the API, and what it tells about their kinds."""

import base64
import copy
import datetime
import itertools
import json
import re
import threading
import uuid

# Version, kind and short name, by the name in paths.
KINDS = {
    "configmaps": ("v1", "ConfigMap", "cm"),
    "persistentvolumeclaims": ("v1", "PersistentVolumeClaim", "pvc"),
    "pods": ("v1", "Pod", "po"),
    "secrets": ("v1", "Secret", ""),
    "serviceaccounts": ("v1", "ServiceAccount", "sa"),
    "services": ("v1", "Service", "svc"),
    "statefulsets": ("apps/v1", "StatefulSet", "sts"),
    "network-attachment-definitions": ("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", "net-attach-def"),
    "servicemonitors": ("monitoring.coreos.com/v1", "ServiceMonitor", "smon"),
    "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy", "netpol"),
    "poddisruptionbudgets": ("policy/v1", "PodDisruptionBudget", "pdb"),
}


class Store:
    """Objects by (plural, namespace, name), none of which is changed in its place, and what happened to them."""

    def __init__(self):
        self.objects = {}
        self.events = []
        self.changed = threading.Condition(threading.RLock())

    def write(self, key, new):
        """Makes or replaces an object, unless it is so already; returns it as it is then."""
        plural, namespace, name = key
        new = copy.deepcopy(new)
        with self.changed:
            old = self.objects.get(key)
            now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            first = {"uid": str(uuid.uuid4()), "creationTimestamp": now, "generation": 0, "resourceVersion": "0"}
            before = old["metadata"] if old else first
            new["apiVersion"], new["kind"], _ = KINDS[plural]
            new["metadata"] = new.get("metadata", {}) | {field: before[field] for field in first}
            new["metadata"].update(namespace=namespace, name=name)
            if plural == "statefulsets":
                # The API's default, by which `kubectl rollout status` knows what to wait for.
                new["spec"].setdefault("updateStrategy", {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
            if not old or old.get("spec") != new.get("spec"):
                new["metadata"]["generation"] += 1
            return old if new == old else self.tell("MODIFIED" if old else "ADDED", key, new)

    def remove(self, key):
        with self.changed:
            self.tell("DELETED", key, copy.deepcopy(self.objects.pop(key)))

    def tell(self, event, key, thing):
        thing["metadata"]["resourceVersion"] = str(len(self.events) + 1)
        self.events.append((event, key, thing))
        if event != "DELETED":
            self.objects[key] = thing
        self.changed.notify_all()
        return thing


store = Store()


def selected(thing, query):
    """Whether an object is one of those that a list is asked for."""
    metadata = thing["metadata"]
    fields = {"labelSelector": metadata.get("labels", {}), "fieldSelector": {"metadata.name": metadata["name"]}}
    terms = [(fields[kind], term) for kind in fields for term in query.get(kind, "").split(",") if term]
    return all(actual.get(name) == value for actual, term in terms for name, value in [re.split("==?", term)])


def merged(old, patch):
    """A merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    new = dict(old) if isinstance(old, dict) else {}
    new.update((name, merged(new.get(name), value)) for name, value in patch.items())
    return {name: value for name, value in new.items() if value is not None}


def fields(message):
    """The fields of a message of Protocol Buffers that are texts or messages, by number."""
    found, octets = {}, iter(message)

    def number():
        value = 0
        for place, octet in enumerate(octets):
            value |= (octet & 127) << 7 * place
            if octet < 128:
                break
        return value

    while tag := number():
        value = number()
        if tag & 7 == 2:
            found.setdefault(tag >> 3, []).append(bytes(itertools.islice(octets, value)))
    return found


def parsed(body):
    """An object in a request. Some clients send Secrets, and nothing else that matters here, otherwise than as JSON."""
    if not body.startswith(b"k8s\0"):
        return json.loads(body)
    secret = fields(fields(body[4:])[2][0])
    metadata = fields(secret[1][0])
    pairs = lambda entries: {entry[1][0].decode(): entry[2][0] for entry in map(fields, entries)}
    labels = {name: value.decode() for name, value in pairs(metadata.get(11, [])).items()}
    return {
        "metadata": {"name": metadata[1][0].decode(), "labels": labels},
        "data": {name: base64.b64encode(value).decode() for name, value in pairs(secret[2]).items()},
        "type": secret[3][0].decode(),
    }


def discovery():
    """What is answered at the paths that tell what there is."""
    groups, documents = [], {}
    answers = {
        "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
        "/openapi/v3": {"paths": documents},
    }
    for version, kinds in itertools.groupby(KINDS.items(), lambda each: each[1][0]):
        group, _, number = version.rpartition("/")
        path = f"apis/{version}" if group else f"api/{version}"
        if group:
            preferred = {"groupVersion": version, "version": number}
            groups.append({"name": group, "versions": [preferred], "preferredVersion": preferred})
        resources, patches = [], {}
        for plural, (_, kind, short) in kinds:
            verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
            names = {"name": plural, "singularName": kind.lower(), "shortNames": [short] if short else []}
            resources.append(names | {"kind": kind, "namespaced": True, "verbs": verbs})
            # That the API looks for unknown fields itself. Otherwise its clients would, and ask for schemas.
            checks = [{"name": "fieldValidation", "in": "query"}]
            whose = {"group": group, "version": number, "kind": kind}
            patch = {"parameters": checks, "x-kubernetes-group-version-kind": whose, "responses": {}}
            patches[f"/{path}/{plural}"] = {"patch": patch}
        answers[f"/{path}"] = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        documents[path] = {"serverRelativeURL": f"/openapi/v3/{path}"}
        about = {"title": "a stand-in", "version": "v1.33.0"}
        answers[f"/openapi/v3/{path}"] = {"openapi": "3.0.0", "info": about, "paths": patches}
    return answers
