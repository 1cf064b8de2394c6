"""The fabric: pods of two clusters reach each other. An agent programs kernels, a controller tells it what to have.

Between the two is the contract in proto/isthmus/fabric/v1/fabric.proto; its generated code is in `_pb`.
"""
