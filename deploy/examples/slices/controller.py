"""A controller of a slice class of one's own, in fifty lines: `class: even` grants whole pairs of CPUs, at most 8.

The contract: watch ResourceSlices at the provider, look at those of your class, and write `status.decision` of each:
`verdict` Granted with `resources`, or Denied, and a `message` for the consumer. The rest is isthmus': the Tenant's
ceiling, the lease, the quota, and telling the consumer. A decision stands until another one is written.

    python controller.py [KUBECONFIG]
"""

import sys

from kubernetes import client, config, watch

KIND = {"group": "authentication.isthmus.dev", "version": "v1alpha1", "plural": "resourceslices"}
CLASS = "even"


def decide(asked):
    """What is granted of what is asked."""
    cpu = str(asked["cpu"])
    if not cpu.isdigit() or int(cpu) < 2:
        return {"verdict": "Denied", "message": "class even has whole pairs of CPUs: ask for 2 or more"}
    pairs = min(int(cpu), 8) // 2
    return {"verdict": "Granted", "resources": {**asked, "cpu": str(pairs * 2)}, "message": f"{pairs} pairs"}


def main():
    """Decide about what is there and what comes, for ever."""
    if len(sys.argv) > 1:
        config.load_kube_config(sys.argv[1])
    else:
        config.load_incluster_config()
    api = client.CustomObjectsApi()
    while True:
        for event in watch.Watch().stream(api.list_cluster_custom_object, **KIND, timeout_seconds=300):
            slice_, meta = event["object"], event["object"]["metadata"]
            ours = slice_["spec"]["class"] == CLASS and meta["namespace"].startswith("isthmus-")
            if event["type"] == "DELETED" or not ours:
                continue
            decision = decide(slice_["spec"]["resources"])
            if slice_.get("status", {}).get("decision") == decision:
                continue
            # As a merge patch, null takes away what an earlier decision said and this one does not.
            body = {"status": {"decision": {"resources": None, **decision}}}
            try:
                where = {"namespace": meta["namespace"], "name": meta["name"]}
                api.patch_namespaced_custom_object_status(**KIND, **where, body=body)
            except client.ApiException as error:
                if error.status != 404:
                    raise


if __name__ == "__main__":
    main()
