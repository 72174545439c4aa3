"""Reads Kubernetes objects as YAML and prints them as JSON, with what the schemas of the API's versions say of them.

{"objects": [...], "problems": ["1.31 StatefulSet x: ..."], "unknown": ["ServiceMonitor", ...]}: the schemas are strict,
a field that they do not know is a problem. Kinds without a schema are those of custom resources.
"""

import json
import sys

import kubernetes_validate
import yaml


class Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, as the API does and PyYAML does not."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"twice in one mapping: {twice} {node.start_mark}")
        return super().construct_mapping(node, deep)


objects = [each for each in yaml.load_all(sys.stdin, Loader) if each is not None]
problems, unknown = [], set()
for each in objects:
    for version in sys.argv[1:]:
        name = f"{version} {each['kind']} {each['metadata']['name']}"
        try:
            used = kubernetes_validate.validate(each, version, strict=True)
            if used != version:
                problems.append(f"{name}: validated as {used}")
        except kubernetes_validate.SchemaNotFoundError:
            unknown.add(each["kind"])
        except kubernetes_validate.ValidationError as error:
            where = "/".join(str(part) for part in error.absolute_path)
            problems.append(f"{name}: {where}: {error.message}")
json.dump({"objects": objects, "problems": problems, "unknown": sorted(unknown)}, sys.stdout)
