"""The user service: a package is a resource."""

SERVICE_NAME = "cloudnative-user-api"
# The names that somebody who knows the service may make a password of.
SERVICE_WORDS = (__name__, *SERVICE_NAME.partition("-")[::2])
