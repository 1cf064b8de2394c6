"""CustomResourceDefinitions made from the types in `api`: `python -m deploy.crds` writes the YAML files here."""
