"""What a program on Python's kubernetes client does: lists, watches, an informer, patches. Prints what it saw."""

import sys
import threading

from kubernetes import client, config, watch
from kubernetes.informer import SharedInformer

config.load_kube_config(sys.argv[1])
core = client.CoreV1Api()
apps = client.AppsV1Api()


def config_map(name):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name), data={"a": "b"})


print("namespaces:", ",".join(sorted(one.metadata.name for one in core.list_namespace().items)))

made = core.create_namespaced_config_map("default", config_map("first"))
patched = core.patch_namespaced_config_map("first", "default", {"data": {"c": "d"}})
print("patched:", sorted(patched.data.items()))
events = watch.Watch().stream(
    core.list_namespaced_config_map,
    "default",
    resource_version=made.metadata.resource_version,
    timeout_seconds=10,
)
event = next(events)
print("watched:", event["type"], event["object"].metadata.name)

seen = threading.Event()
informer = SharedInformer(core.list_namespaced_config_map, namespace="default")
informer.add_event_handler("ADDED", lambda one: one.metadata.name == "second" and seen.set())
informer.start()
core.create_namespaced_config_map("default", config_map("second"))
print("informed:", seen.wait(10))
# Its thread ends with the program: stop() waits for the watch to end, which may be in an hour.

labels = {"app": "web"}
template = client.V1PodTemplateSpec(
    metadata=client.V1ObjectMeta(labels=labels),
    spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="nginx")]),
)
spec = client.V1DeploymentSpec(
    replicas=2, selector=client.V1LabelSelector(match_labels=labels), template=template
)
deployment = client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec)
apps.create_namespaced_deployment("default", deployment)
scale = apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 7}})
print("scaled:", scale.spec.replicas)

page = core.list_namespaced_config_map("default", limit=1)
rest = core.list_namespaced_config_map("default", limit=1, _continue=page.metadata._continue)
print("pages:", page.items[0].metadata.name, rest.items[0].metadata.name)

core.delete_namespaced_config_map("first", "default")
try:
    core.read_namespaced_config_map("first", "default")
except client.ApiException as error:
    print("gone:", error.status, error.reason)
