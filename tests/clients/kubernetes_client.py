"""What a program on Python's kubernetes client does with a deployment of a whole cluster. Prints what it saw."""

import sys
import threading

from kubernetes import client, config, watch
from kubernetes.informer import SharedInformer

config.load_kube_config(sys.argv[1])
core = client.CoreV1Api()
apps = client.AppsV1Api()
SECONDS = 30
LABELS = {"app": "python"}
SELECTOR = "app=python"


def is_ready(pod):
    conditions = pod.status.conditions or []
    return any(one.type == "Ready" and one.status == "True" for one in conditions)


def wait_for_deployment(is_done):
    """Lists, and then watches from there, as every controller does. `None`: there is no deployment."""
    listed = apps.list_namespaced_deployment("default", label_selector=SELECTOR)
    if any(is_done(one) for one in listed.items or [None]):
        return
    events = watch.Watch().stream(
        apps.list_namespaced_deployment,
        "default",
        label_selector=SELECTOR,
        resource_version=listed.metadata.resource_version,
        timeout_seconds=SECONDS,
    )
    for event in events:
        if is_done(None if event["type"] == "DELETED" else event["object"]):
            return
    raise SystemExit("the watch has ended")


def has(replicas):
    def is_done(deployment):
        status = deployment.status
        counts = (status.replicas, status.updated_replicas, status.available_replicas)
        seen = status.observed_generation == deployment.metadata.generation
        return seen and counts == (replicas,) * 3

    return is_done


ready = set()
all_ready = threading.Event()


def pod_changed(*pods):
    pod = pods[-1]
    if is_ready(pod):
        ready.add(pod.metadata.uid)
    if len(ready) == 3:
        all_ready.set()


informer = SharedInformer(core.list_namespaced_pod, namespace="default", label_selector=SELECTOR)
informer.add_event_handler("ADDED", pod_changed)
informer.add_event_handler("MODIFIED", pod_changed)
informer.start()

template = client.V1PodTemplateSpec(
    metadata=client.V1ObjectMeta(labels=LABELS),
    spec=client.V1PodSpec(containers=[client.V1Container(name="main", image="nginx:1.26")]),
)
spec = client.V1DeploymentSpec(
    replicas=3, selector=client.V1LabelSelector(match_labels=LABELS), template=template
)
metadata = client.V1ObjectMeta(name="python", labels=LABELS)
first = apps.create_namespaced_deployment(
    "default", client.V1Deployment(metadata=metadata, spec=spec)
)
wait_for_deployment(has(3))
print("watched: available")
print("informed:", len(ready) if all_ready.wait(SECONDS) else "never", "pods ready")
# Its thread ends with the program: stop() waits for the watch to end, which may be in an hour.

scale = apps.patch_namespaced_deployment_scale("python", "default", {"spec": {"replicas": 5}})
print("scaled:", scale.spec.replicas)
wait_for_deployment(has(5))

containers = [{"name": "main", "image": "nginx:1.27"}]
patched = apps.patch_namespaced_deployment(
    "python", "default", {"spec": {"template": {"spec": {"containers": containers}}}}
)
print("patched:", patched.spec.template.spec.containers[0].image.split(":")[1])
wait_for_deployment(has(5))
pods = core.list_namespaced_pod("default", label_selector=SELECTOR).items
new = [one for one in pods if one.spec.containers[0].image == "nginx:1.27" and is_ready(one)]
print("rolled out:", len(new))

names, token = [], None
while True:
    page = core.list_namespaced_pod("default", label_selector=SELECTOR, limit=2, _continue=token)
    names += [one.metadata.name for one in page.items if not one.metadata.deletion_timestamp]
    token = page.metadata._continue
    if not token:
        break
print("continued:", len(set(names)))

try:
    apps.replace_namespaced_deployment("python", "default", first)
except client.ApiException as error:
    print("conflict:", error.status, error.reason)

apps.delete_namespaced_deployment("python", "default", propagation_policy="Foreground")
wait_for_deployment(lambda deployment: deployment is None)
left = core.list_namespaced_pod("default", label_selector=SELECTOR).items
print("deleted:", "gone" if not left else [one.metadata.name for one in left])
