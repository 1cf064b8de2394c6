"""Generated from proto/isthmus/fabric/v1/fabric.proto by `python -m deploy.protocol`: do not edit."""
