"""Types of the group authentication.isthmus.dev: who may borrow what of whom."""
