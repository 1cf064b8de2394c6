"""The consumer's side: Identities, whose keys are made here and never leave, and the kubeconfigs that they yield.

`access` and `manifest` are pure; `keyring` and `remote` talk to the two API servers; `identities` reconciles and
`consumer` puts it together.
"""
