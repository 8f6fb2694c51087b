"""The user service: a package is a resource."""

SERVICE_NAME = "cloudnative-user-api"
# Names from which somebody who knows the service may make a password.
SERVICE_WORDS = (__name__, *SERVICE_NAME.partition("-")[::2])
