"""HTTP controllers, one module a resource."""
