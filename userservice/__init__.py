"""The user service: a module is a mechanism, a package is a resource."""

SERVICE_NAME = "cloudnative-user-api"
