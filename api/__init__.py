"""The types of isthmus' own Kubernetes objects, group by group: data, schema, defaults; nothing that does I/O.

Only the metadata of an object comes from `kube.objects`. CRDs are generated from these types (`deploy.crds`).
"""
