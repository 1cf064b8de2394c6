"""The address plan: what stands in this cluster for each network of each peer. Pure.

On the wire every cluster uses its own addresses as they are. What a peer's address is called *here* is decided here
alone, prefix for prefix: by itself where nothing else of this cluster has that address, else as a free network of the
same size. So two clusters with the same networks reach each other without either asking the other.
"""
