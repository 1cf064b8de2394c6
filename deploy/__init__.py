"""What runs isthmus: the lab, the demo, roles and examples."""
