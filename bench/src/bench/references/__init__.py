"""The physical limits that the product is held against, each as bare as it can be."""
