"""Labels, annotations and values by which scheduling works, at the consumer only."""

from __future__ import annotations

from typing import Any, Final

from reflection.forge.names import PREFIX

NODE_MARK: Final = PREFIX + "node"
"""Label that every virtual node of ours carries, whatever the user does to its other labels (see `vk.node.forge`)."""

PROVIDER_LABEL: Final = PREFIX + "provider"
"""Label of a virtual node: the id of the provider cluster behind it."""

SCHEDULING_LABEL: Final = PREFIX + "scheduling"
"""Label of a namespace whose new pods the webhook is to prepare."""
SCHEDULING_ENABLED: Final = "enabled"

OPT_OUT: Final = PREFIX + "opt-out"
"""Label or annotation of a pod, value "true": the pod is left as it is."""

STRATEGY_MARK: Final = PREFIX + "pod-strategy"
"""Annotation of a pod: the strategy that it was prepared for, or `KEPT_LOCAL`."""
KEPT_LOCAL: Final = "KeptLocal"
"""Mark of a pod that was left as it is because no provider could run it."""

TOLERATION: Final[dict[str, Any]] = {
    "key": "virtual-kubelet.io/provider",
    "operator": "Equal",
    "value": "isthmus",
    "effect": "NoSchedule",
}
"""Tolerates the taint that virtual nodes have unless told otherwise."""
